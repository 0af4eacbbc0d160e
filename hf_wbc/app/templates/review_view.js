// Draws a review: toolbar, one list per class, an inspector beside them and a zoom dialog.
(() => {
  const UNIDENTIFIED = 'unidentified', MOST_ZOOMED = 80;
  const SORTS = {
    doubt: ['doubt', (cell) => -cell.doubt],
    harm: ['consequence', (cell) => -cell.harm],
    number: ['number', (cell) => cell.number],
  };
  const SHOWN = {
    all: ['all cells', () => true],
    unseen: ['not reviewed', (cell, state) => state === 'unseen'],
    look: ['to look at', (cell) => cell.reasons.length > 0],
    changed: ['changed', (cell, state) => state === 'changed'],
  };
  const STATES = { unseen: 'not reviewed', confirmed: 'confirmed', changed: 'changed' };
  const MARKS = { unseen: '', confirmed: '✓', changed: '✎' };

  const el = (tag, props = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(props)) {
      if (name === 'text') made.textContent = value;
      else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : value);
    }
    made.append(...children.filter(Boolean));
    return made;
  };
  const percent = (value) => {
    if (value > 0 && value < 0.0005) return '<0.1 %';
    return value >= 0.9995 && value < 1 ? '>99.9 %' : `${(100 * value).toFixed(1)} %`;
  };
  const choice = (label, name, options) => el('label', { class: 'choice' }, `${label} `, el('select', { 'data-option': name },
    ...options.map(([value, text]) => el('option', { value, text }))));

  class View {
    constructor(review, zoom, options) {
      Object.assign(this, { review, askZoom: zoom, cards: new Map(), groups: new Map(), zooms: new Map() });
      Object.assign(this, { sort: 'doubt', shown: 'all', only: '', name: '', selected: new Set(), isMany: false });
      Object.assign(this, options);
      this.keys = new Map(review.classes.map(({ id, key }) => [id, key]));
      for (const [id, key] of Object.entries(window.wbcStore.read('localStorage', 'wbc-review-keys') ?? {})) {
        if (this.keys.has(Number(id))) this.keys.set(Number(id), key);
      }
      this.root = this.frame();
    }
    options() { return { sort: this.sort, shown: this.shown, only: this.only, name: this.name, current: this.current }; }
    of(id) { return this.review.classOf.get(id); }
    nameOf(id) { return id === UNIDENTIFIED ? this.review.open.name : this.of(id)?.name ?? ''; }

    frame() {
      const button = (action, text, title) => el('button', { type: 'button', class: 'plain', 'data-action': action, title, text });
      const classes = [['', 'all'], ...this.review.classes.map(({ id, name }) => [id, name]), [UNIDENTIFIED, this.review.open.name]];
      this.bar = el('progress', { max: 1, value: 0, 'aria-label': 'Reviewed cells' });
      this.told = el('b', { class: 'told', 'data-progress': true });
      this.savedNote = el('span', { class: 'soft', 'data-saved-state': true });
      this.count = el('span', { class: 'soft', role: 'status', 'data-shown': true });
      this.palette = el('div', { class: 'palette', role: 'toolbar', 'aria-label': 'Give the selected cells a class' });
      this.list = el('div', { class: 'groups' });
      this.pane = el('aside', { class: 'inspector', 'aria-label': 'The cell in focus' });
      this.dialog = el('dialog', { class: 'zoomed', 'aria-label': 'The cell, enlarged' });
      this.keyDialog = el('dialog', { class: 'keys', 'aria-label': 'Keys' });
      const tools = el('div', { class: 'tools', role: 'group', 'aria-label': 'Order and filters' },
        choice('sort by', 'sort', Object.entries(SORTS).map(([id, [text]]) => [id, text])),
        choice('show', 'shown', Object.entries(SHOWN).map(([id, [text]]) => [id, text])),
        choice('class', 'only', classes),
        el('label', { class: 'choice' }, 'name ', el('input', { type: 'search', 'data-option': 'name', placeholder: 'part of a name', size: 12 })),
        this.count);
      const actions = el('div', { class: 'tools', role: 'group', 'aria-label': 'Review' },
        this.review.isBlind ? null : button('confirm-shown', 'Confirm all shown', 'Confirm the proposed class of every cell that is shown'),
        button('undo', 'Undo', 'Ctrl+Z'), button('redo', 'Redo', 'Ctrl+Y'),
        el('button', { type: 'button', class: 'plain', 'data-action': 'many', 'aria-pressed': 'false', text: 'Select several' }),
        button('keys', 'Keys…', 'Show and change the keys'));
      return el('section', { class: 'wbc review', 'aria-label': 'Review of the cells' },
        el('div', { class: 'top' }, el('h2', { text: 'Review' }), this.bar, this.told, this.savedNote),
        tools, actions, this.palette, el('div', { class: 'desk' }, this.list, this.pane), this.dialog, this.keyDialog);
    }

    draw() {
      for (const select of this.root.querySelectorAll('[data-option]')) select.value = this[select.dataset.option];
      const ids = this.review.classes.map(({ id }) => id);
      const numCounted = this.review.classes.filter((each) => each.is_counted).length;
      const at = this.review.isBlind ? 0 : numCounted;  // cells that wait for a name come first
      for (const id of [...ids.slice(0, at), UNIDENTIFIED, ...ids.slice(at)]) this.addGroup(id);
      this.list.append(...[...this.groups.values()].map(({ section }) => section));
      for (const cell of this.review.cells.values()) this.cards.set(cell.number, this.card(cell));
      this.drawPalette();
      this.arrange();
      if (!this.cards.has(this.current)) this.current = null;
      this.setCurrent(this.current ?? this.visible()[0] ?? null, false);
    }
    addGroup(id) {
      const each = this.of(id);
      const dot = each?.lineage && el('span', { class: `dot ${each.lineage}`, 'aria-hidden': 'true' });
      const total = el('span', { class: 'soft' });
      const confirm = id !== UNIDENTIFIED && el('button', { type: 'button', class: 'plain small', 'data-confirm': id });
      const note = id === UNIDENTIFIED ? this.review.open.note : each.is_counted ? '' : 'Not in the count.';
      const title = el('h3', {}, dot, this.nameOf(id), ' ', total, confirm);
      const list = el('div', { class: 'cards', role: 'listbox', 'aria-multiselectable': 'true', 'aria-label': this.nameOf(id) });
      const section = el('section', { class: 'group', 'data-group': id, 'aria-label': this.nameOf(id) },
        title, note && el('p', { class: 'soft', text: note }), list);
      this.groups.set(id, { section, list, total, confirm });
    }
    card(cell) {
      return el('div', { class: 'card', role: 'option', draggable: 'true', tabindex: '-1', 'data-cell': cell.number },
        el('img', { src: cell.uri, alt: '', draggable: 'false', decoding: 'async' }),
        el('span', { class: 'sr' }), el('span', { class: 'mark', 'aria-hidden': 'true' }), el('span', { class: 'doubtful', 'aria-hidden': 'true', text: '?' }),
        el('span', { class: 'caption', 'aria-hidden': 'true' }, el('span', { class: 'no', text: cell.number }), el('span', { class: 'p' })));
    }
    drawPalette() {
      const chip = ({ id, name, lineage, is_counted: isCounted }) => el('button',
        { type: 'button', class: isCounted ? 'chip' : 'chip outside', 'data-class': id, 'aria-keyshortcuts': this.keys.get(id) },
        el('kbd', { text: this.keys.get(id).toUpperCase() }), lineage && el('span', { class: `dot ${lineage}`, 'aria-hidden': 'true' }), name.split(',')[0]);
      const main = (action, key, text) => el('button', { type: 'button', class: 'chip main', 'data-action': action }, el('kbd', { text: key }), text);
      this.palette.replaceChildren(...this.review.isBlind ? [] : [main('confirm', 'Enter', 'confirm')], main('zoom', 'Space', 'zoom'),
        ...this.review.classes.map(chip), main('clear', '⌫', 'not reviewed'));
    }

    // Put every card where it belongs, in order.
    arrange() {
      const value = SORTS[this.sort][1];
      const cells = [...this.review.cells.values()].sort((a, b) => value(a) - value(b) || a.number - b.number);
      this.rank = new Map(cells.map((cell, rank) => [cell.number, rank]));
      for (const cell of cells) this.groups.get(this.review.group(cell.number)).list.append(this.cards.get(cell.number));
      this.update(this.review.cells.keys());
    }
    // Redraw cells after a change of their classes.
    update(numbers) {
      for (const number of numbers) {
        const cell = this.review.cells.get(number), card = this.cards.get(number);
        const group = this.groups.get(this.review.group(number));
        if (card.parentElement !== group.list) {
          const rank = this.rank.get(number);
          const after = [...group.list.children].find((other) => this.rank.get(Number(other.dataset.cell)) > rank);
          group.list.insertBefore(card, after ?? null);
        }
        const state = this.review.state(number), p = cell.top.find(([label]) => label === this.review.label(number))?.[1];
        card.dataset.state = state;
        card.toggleAttribute('data-look', cell.reasons.length > 0 && state === 'unseen');
        card.querySelector('.mark').textContent = MARKS[state];
        card.querySelector('.p').textContent = p === undefined ? '' : percent(p);
        card.title = cell.reasons.join('; ');
        card.querySelector('.sr').textContent = this.describe(number);
        card.setAttribute('aria-selected', String(this.selected.has(number)));
        card.hidden = !this.isShown(cell);
      }
      this.summarize();
    }
    isShown(cell) {
      const group = this.review.group(cell.number);
      return SHOWN[this.shown][1](cell, this.review.state(cell.number)) && (this.only === '' || String(group) === this.only)
        && cell.name.toLowerCase().includes(this.name.toLowerCase());
    }
    describe(number) {
      const { review } = this, cell = review.cells.get(number), group = review.group(number);
      const was = review.state(number) === 'changed' ? `, proposed: ${this.nameOf(cell.label)}` : '';
      const why = cell.reasons.length ? `. ${cell.reasons.join('; ')}` : '';
      return `Cell ${number}: ${this.nameOf(group)}, ${STATES[review.state(number)]}${was}${why}`;
    }
    summarize() {
      let shown = 0;
      for (const [id, { section, list, total, confirm }] of this.groups) {
        const cards = [...list.children], visible = cards.filter((card) => !card.hidden);
        const open = visible.filter((card) => card.dataset.state === 'unseen').length;
        section.hidden = !visible.length;
        total.textContent = visible.length === cards.length ? `${cards.length}` : `${visible.length} of ${cards.length}`;
        if (confirm) {
          confirm.textContent = open === 1 ? 'Confirm 1' : `Confirm ${open}`;
          confirm.hidden = !open;
          confirm.setAttribute('aria-label', `Confirm ${open} shown as ${this.nameOf(id)}`);
        }
        shown += visible.length;
      }
      this.count.textContent = `${shown} of ${this.cards.size} shown`;
      this.progress();
    }
    progress() {
      const { numReviewed, cells, hasUnsaved, isLate, done, undone } = this.review;
      this.bar.max = cells.size;
      this.bar.value = numReviewed;
      this.told.textContent = `${numReviewed} of ${cells.size} reviewed`;
      this.savedNote.textContent = isLate ? 'not saved yet: trying again' : hasUnsaved ? 'saving…' : numReviewed ? 'saved' : '';
      this.root.querySelector('[data-action=undo]').disabled = !done.length;
      this.root.querySelector('[data-action=redo]').disabled = !undone.length;
    }

    visible() { return [...this.list.querySelectorAll('.group:not([hidden]) .card:not([hidden])')].map((card) => Number(card.dataset.cell)); }
    setCurrent(number, takesFocus = true) {
      this.cards.get(this.current)?.setAttribute('tabindex', '-1');
      this.current = number;
      const card = this.cards.get(number);
      card?.setAttribute('tabindex', '0');
      if (card && takesFocus && !this.dialog.open) card.focus();
      this.inspect(number);
    }
    // Take the focus back after new cells have come: to the first without a name, if that is asked for.
    goOn() {
      const open = this.visible().find((number) => this.review.state(number) === 'unseen');
      this.setCurrent(this.review.isBlind && open !== undefined ? open : this.current);
    }
    select(numbers) {
      const before = this.selected;
      this.selected = new Set(numbers);
      for (const number of new Set([...before, ...this.selected])) {
        this.cards.get(number)?.setAttribute('aria-selected', String(this.selected.has(number)));
      }
    }

    inspect(number) {
      this.inspected = number;
      const { review } = this, cell = review.cells.get(number);
      const parts = cell ? this.about(cell) : [el('p', { class: 'soft', text: 'No cell is shown.' })];
      this.pane.replaceChildren(...parts);
      if (this.dialog.open) this.fillDialog();
      clearTimeout(this.asking);
      if (cell && !this.zooms.has(number)) {
        this.asking = setTimeout(() => this.askZoom({ sample: review.sample, number }), this.dialog.open ? 0 : 120);
      }
    }
    about(cell) { return [...this.facts(cell), ...this.compared(cell)]; }
    compared(cell) {
      const { review } = this;
      return [review.label(cell.number), review.rival(cell.number)].filter((id) => review.references[id]?.length)
        .map((id) => el('div', { class: 'references' }, el('h4', { text: `Reference: ${this.nameOf(id)}` }),
          el('div', {}, ...review.references[id].map(({ uri, source }) => el('img', { src: uri, alt: `${this.nameOf(id)}, training cell of ${source}`, title: source })))));
    }
    facts(cell) {
      const { review } = this, state = review.state(cell.number);
      const bars = el('table', { class: 'bars' }, el('caption', { class: 'sr', text: 'Most probable classes' }),
        el('tbody', {}, ...cell.top.map(([id, p]) => el('tr', {}, el('th', { scope: 'row', text: this.nameOf(id) }), el('td', { text: percent(p) })))));
      return [
        el('img', { class: 'large', src: this.zooms.get(cell.number)?.seen ?? cell.uri, alt: this.describe(cell.number) }),
        el('h3', {}, `${cell.number} · ${this.nameOf(review.group(cell.number))}`),
        el('p', { class: 'soft', text: `${STATES[state]}${state === 'changed' ? `; proposed: ${this.nameOf(cell.label)}` : ''} · ${cell.name}` }),
        bars,
        cell.reasons.length ? el('ul', { class: 'why' }, ...cell.reasons.map((text) => el('li', { text }))) : null,
      ].filter(Boolean);
    }
    openDialog() {
      if (this.current === null) return;
      if (!this.dialog.open) this.dialog.showModal();
      this.inspect(this.current);
    }
    fillDialog() {
      const button = (action, text) => el('button', { type: 'button', class: 'plain', 'data-action': action, text });
      const cell = this.review.cells.get(this.inspected), field = this.zooms.get(this.inspected)?.field;
      const around = el('div', { class: 'around' });
      around.innerHTML = field ?? '';  // Python's own, escaped HTML
      const chips = this.palette.cloneNode(true);
      this.dialog.replaceChildren(
        el('div', { class: 'tools' }, button('previous', '‹ Previous'), button('next', 'Next ›'), button('close', 'Close')),
        el('div', { class: 'columns' }, el('div', {}, ...this.facts(cell)), el('div', {}, ...this.compared(cell), around)), chips);
      if (!this.dialog.contains(document.activeElement)) this.dialog.querySelector('[data-action=next]').focus();
    }
    zoomed(element) {
      const found = element.querySelector('[data-zoom]');
      if (!found || Number(found.dataset.sample) !== this.review.sample) return;
      const number = Number(found.dataset.zoom);
      this.zooms.set(number, { seen: found.querySelector('img.seen').src, field: found.querySelector('.field').outerHTML });
      if (this.zooms.size > MOST_ZOOMED) this.zooms.delete(this.zooms.keys().next().value);
      if (this.inspected === number) this.inspect(number);
    }
  }
  Object.assign(View, { el, UNIDENTIFIED });
  window.wbcReviewView = View;
})();
