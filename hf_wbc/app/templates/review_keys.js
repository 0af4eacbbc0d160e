// What a person does with a review: keys, clicks, touch, and drag and drop.
(() => {
  const { el, UNIDENTIFIED } = window.wbcReviewView;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const HELP = [['Arrows', 'move'], ['Shift + arrows', 'select several'], ['Enter', 'confirm the proposed class'],
    ['Space', 'zoom'], ['Backspace', 'mark as not reviewed'], ['Ctrl + Z, Ctrl + Y', 'undo, redo'],
    ['Ctrl + A', 'select all of this class'], ['Esc', 'end the selection']];

  class Hands {
    constructor(view) {
      Object.assign(this, { view, review: view.review, root: view.root, anchor: null });
    }
    get targets() {
      const { selected, current } = this.view;
      return selected.size ? [...selected].filter((number) => !this.view.cards.get(number).hidden) : current === null ? [] : [current];
    }

    // Change classes, then move on to the cell that follows.
    act(changes, words) {
      const { view, review } = this, hasFocus = this.root.contains(document.activeElement);  // a moved card loses it
      const before = view.visible(), touched = new Set(changes.map(([number]) => number));
      const last = Math.max(...changes.map(([number]) => before.indexOf(number)));
      const next = before.slice(last + 1).find((number) => !touched.has(number)) ?? before.findLast((number) => !touched.has(number));
      const changed = review.assign(changes);
      view.select([]);
      view.update(changed);
      const goesOn = touched.has(view.current) || view.cards.get(view.current)?.hidden;
      const stay = view.cards.get(view.current)?.hidden ? null : view.current;
      view.setCurrent(goesOn ? next ?? stay : view.current, hasFocus);
      window.wbcSay(`${words}. ${view.told.textContent}.`);
    }
    give(numbers, label) {
      if (!numbers.length) return;
      const name = label === null ? 'not reviewed' : this.view.nameOf(label);
      this.act(numbers.map((number) => [number, label]), numbers.length === 1 ? `Cell ${numbers[0]}: ${name}` : `${numbers.length} cells: ${name}`);
    }
    confirm(wanted) {
      const label = (number) => this.review.given.get(number) ?? this.review.cells.get(number).label;
      const numbers = wanted.filter((number) => this.review.classOf.has(label(number)));
      if (!numbers.length) return;
      this.act(numbers.map((number) => [number, label(number)]), numbers.length === 1
        ? `Cell ${numbers[0]} confirmed: ${this.view.nameOf(label(numbers[0]))}` : `${numbers.length} cells confirmed`);
    }
    confirmShown(group) {
      const open = this.view.visible().filter((number) => {
        const own = this.review.group(number);
        return this.review.state(number) === 'unseen' && own !== UNIDENTIFIED && (group === undefined || String(own) === group);
      });
      if (open.length) this.confirm(open);
      else window.wbcSay('No cell is left to confirm.');
    }
    step(which) {
      const hasFocus = this.root.contains(document.activeElement), changed = this.review[which]();
      if (!changed.length) return;
      this.view.update(changed);
      const shown = changed.find((number) => !this.view.cards.get(number).hidden);
      this.view.setCurrent(shown ?? this.view.visible()[0] ?? null, hasFocus);
      window.wbcSay(`${which === 'undo' ? 'Undone' : 'Done again'}: ${changed.length} cell${changed.length === 1 ? '' : 's'}. ${this.view.told.textContent}.`);
    }

    move(dx, dy, extends_) {
      const { view } = this, all = view.visible(), at = all.indexOf(view.current);
      let to = all[Math.min(Math.max(at + dx, 0), all.length - 1)];
      if (dy) to = this.vertical(all, dy) ?? view.current;
      if (extends_) {
        this.anchor ??= view.current;
        const ends = [all.indexOf(this.anchor), all.indexOf(to)].sort((a, b) => a - b);
        view.select(all.slice(ends[0], ends[1] + 1));
      } else this.anchor = null;
      view.setCurrent(to);
    }
    vertical(all, dy) {
      const box = (number) => this.view.cards.get(number).getBoundingClientRect(), own = box(this.view.current);
      const far = all.map((number) => [number, box(number)]).filter(([, r]) => (dy > 0 ? r.top >= own.bottom - 2 : r.bottom <= own.top + 2))
        .map(([number, r]) => [number, Math.abs(r.top - own.top), Math.abs(r.left - own.left)]);
      return far.sort((a, b) => a[1] - b[1] || a[2] - b[2])[0]?.[0];
    }

    do(action) {
      const { view } = this, all = view.visible();
      const beside = (by) => view.setCurrent(all[Math.min(Math.max(all.indexOf(view.current) + by, 0), all.length - 1)] ?? view.current);
      const acts = {
        confirm: () => this.confirm(this.targets), clear: () => this.give(this.targets, null), zoom: () => view.openDialog(),
        'confirm-shown': () => this.confirmShown(), undo: () => this.step('undo'), redo: () => this.step('redo'),
        next: () => beside(1), previous: () => beside(-1), keys: () => this.showKeys(),
        close: () => { view.dialog.close(); view.keyDialog.close(); },
        many: () => {
          view.isMany = !view.isMany;
          this.root.querySelector('[data-action=many]').setAttribute('aria-pressed', String(view.isMany));
          if (!view.isMany) view.select([]);
        },
      };
      acts[action]?.();
    }

    key(event) {
      if (event.target.closest('.keys') || event.target.matches('input, select')) return;
      const card = event.target.closest('.card'), inDialog = this.view.dialog.open;
      if (!card && !inDialog) return;
      const isCommand = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
      if (event.altKey) return;
      if (isCommand) {
        const does = { z: event.shiftKey ? 'redo' : 'undo', y: 'redo' }[key];
        if (does) this.do(does);
        else if (key === 'a' && card) this.view.select([...card.parentElement.querySelectorAll('.card:not([hidden])')].map((each) => Number(each.dataset.cell)));
        else return;
      } else if (ARROWS[event.key]) {
        const [dx, dy] = ARROWS[event.key];
        if (inDialog) this.do(dx + dy > 0 ? 'next' : 'previous');
        else this.move(dx, dy, event.shiftKey);
      } else if (event.key === 'Enter' || event.key === ' ') {
        if (event.target.closest('button')) return;
        this.do(event.key === ' ' ? (inDialog ? 'close' : 'zoom') : 'confirm');
      } else if (event.key === 'Backspace' || event.key === 'Delete') this.do('clear');
      else if (event.key === 'Escape' && !inDialog) this.view.select([]);
      else {
        const found = [...this.view.keys].find(([, each]) => each === key);
        if (!found) return;
        this.give(this.targets, found[0]);
      }
      event.preventDefault();
      event.stopPropagation();
    }

    click(event) {
      const { view } = this, button = event.target.closest('button'), card = event.target.closest('.card');
      if (button?.dataset.action) this.do(button.dataset.action);
      else if (button?.dataset.confirm !== undefined) this.confirmShown(button.dataset.confirm);
      else if (button?.dataset.class !== undefined) this.give(this.targets, Number(button.dataset.class));
      else if (card) {
        const number = Number(card.dataset.cell), from = view.current;
        if (event.shiftKey && from !== null) {
          const all = view.visible(), ends = [all.indexOf(from), all.indexOf(number)].sort((a, b) => a - b);
          view.select(all.slice(ends[0], ends[1] + 1));
        } else if (event.ctrlKey || event.metaKey || view.isMany) {
          const kept = new Set(view.selected);
          if (kept.has(number)) kept.delete(number);
          else kept.add(number);
          view.select(kept);
        } else view.select([]);
        view.setCurrent(number);
      }
    }

    drag(event) {
      const number = Number(event.target.closest('.card').dataset.cell);
      if (!this.view.selected.has(number)) this.view.select([number]);
      event.dataTransfer.setData('text/plain', [...this.view.selected].join(' '));
      event.dataTransfer.effectAllowed = 'move';
      this.root.classList.add('dragging');
    }
    over(event, isDrop) {
      if (!this.root.classList.contains('dragging')) return;
      for (const each of this.root.querySelectorAll('.target')) each.classList.remove('target');
      const place = event.target.closest?.('[data-class], .group');
      const id = place?.dataset.class ?? place?.dataset.group;
      if (id === undefined || id === UNIDENTIFIED) return;
      event.preventDefault();
      place.classList.add('target');
      if (!isDrop) return;
      place.classList.remove('target');
      this.give(this.targets, Number(id));
    }

    showKeys() {
      const { view } = this;
      const rows = this.review.classes.map(({ id, name }) => el('label', {}, el('input', { maxlength: 1, size: 2, value: view.keys.get(id), 'data-key-of': id, autocomplete: 'off' }), ` ${name}`));
      const fault = el('p', { class: 'warn', role: 'alert' });
      view.keyDialog.replaceChildren(el('h3', { text: 'Keys' }),
        el('dl', {}, ...HELP.flatMap(([key, does]) => [el('dt', { text: key }), el('dd', { text: does })])),
        el('div', { class: 'key-list' }, ...rows), fault,
        el('div', { class: 'tools' }, el('button', { type: 'button', class: 'plain', 'data-action': 'close', text: 'Close' })));
      view.keyDialog.showModal();
      view.keyDialog.oninput = () => {
        const chosen = [...view.keyDialog.querySelectorAll('[data-key-of]')].map((input) => [Number(input.dataset.keyOf), input.value.trim().toLowerCase()]);
        const used = chosen.map(([, key]) => key);
        if (used.some((key) => !key) || new Set(used).size < used.length) {
          fault.textContent = 'Each class needs a key of its own; these are not stored.';
          return;
        }
        fault.textContent = '';
        view.keys = new Map(chosen);
        window.wbcStore.write('localStorage', 'wbc-review-keys', Object.fromEntries(chosen));
        view.drawPalette();
      };
    }
    option(event) {
      const { view } = this, name = event.target.dataset?.option;
      if (!name) return;
      view[name] = event.target.value;
      view.arrange();
      if (view.cards.get(view.current)?.hidden ?? true) view.setCurrent(view.visible()[0] ?? null, false);
    }
  }

  window.wbcReviewKeys = (view) => {
    const hands = new Hands(view), { root } = view;
    root.addEventListener('keydown', (event) => hands.key(event));
    root.addEventListener('click', (event) => hands.click(event));
    root.addEventListener('dblclick', (event) => { if (event.target.closest('.card')) view.openDialog(); });
    root.addEventListener('input', (event) => hands.option(event));
    root.addEventListener('mouseover', (event) => {
      const card = event.target.closest('.card');
      if (card && !view.dialog.open) view.inspect(Number(card.dataset.cell));
    });
    view.list.addEventListener('mouseleave', () => { if (!view.dialog.open) view.inspect(view.current); });
    view.dialog.addEventListener('close', () => view.setCurrent(view.current));
    root.addEventListener('dragstart', (event) => hands.drag(event));
    root.addEventListener('dragover', (event) => hands.over(event, false));
    root.addEventListener('drop', (event) => hands.over(event, true));
    root.addEventListener('dragend', () => root.classList.remove('dragging'));
  };
})();
