// The review of one set of cells: classes that a person gave, undo and redo, and what is not saved yet.
(() => {
  const UNDO_STEPS = 500, RETRY_MS = 8000, GATHER_MS = 25;
  const storage = (kind) => { try { return window[kind]; } catch { return null; } };
  const read = (kind, key) => { try { return JSON.parse(storage(kind)?.getItem(key)) ?? null; } catch { return null; } };
  const write = (kind, key, value) => {
    try { storage(kind)?.setItem(key, JSON.stringify(value)); } catch { /* full or forbidden: the server still has it */ }
  };
  const keyOf = (sample) => `wbc-review-${sample}`;

  class Review {
    constructor(data, send, changed) {
      Object.assign(this, { sample: data.sample, classes: data.classes, references: data.references, open: data.open, isBlind: data.is_blind, send, changed });
      this.cells = new Map(data.cells.map((cell) => [cell.number, cell]));
      this.classOf = new Map(data.classes.map((each) => [each.id, each]));
      this.given = new Map();
      this.undone = [];
      this.done = [];
      this.unsaved = new Map();
      this.inFlight = null;
      this.revision = 0;
      this.timer = null;
      this.restore();
    }

    // The browser knows best what a person did last: what it remembers and Python lacks is saved again.
    restore() {
      const kept = read('sessionStorage', keyOf(this.sample)) ?? {};
      this.revision = kept.revision ?? 0;
      this.done = kept.done ?? [];
      this.undone = kept.undone ?? [];
      for (const cell of this.cells.values()) {
        const before = kept.given?.[cell.digest];
        const label = before === undefined || (before !== null && !this.classOf.has(before)) ? cell.given : before;
        this.given.set(cell.number, label);
        if (label !== cell.given) this.unsaved.set(cell.number, label);
      }
      this.flushSoon();
    }

    keep() {
      const given = {};
      for (const cell of this.cells.values()) given[cell.digest] = this.given.get(cell.number);
      const { revision, done, undone } = this;
      write('sessionStorage', keyOf(this.sample), { given, revision, done, undone });
    }

    label(number) { return this.given.get(number) ?? this.cells.get(number).label; }
    state(number) {
      const given = this.given.get(number);
      return given === null ? 'unseen' : this.isBlind || given === this.cells.get(number).label ? 'confirmed' : 'changed';
    }
    // Where the gallery shows a cell: in its class, or among the unidentified ones until someone names it.
    group(number) {
      const cell = this.cells.get(number);
      return this.given.get(number) === null && cell.is_unidentified ? 'unidentified' : this.label(number);
    }
    rival(number) {
      const cell = this.cells.get(number), own = this.label(number);
      return cell.top.find(([label]) => label !== own)?.[0] ?? null;
    }
    get numReviewed() { return [...this.given.values()].filter((label) => label !== null).length; }
    get hasUnsaved() { return this.unsaved.size > 0 || this.inFlight !== null; }
    unsavedLabels() { return { ...this.inFlight?.labels, ...Object.fromEntries(this.unsaved) }; }

    // Give cells a class, as one step that can be undone; returns the numbers of those that changed.
    assign(changes) {
      const step = changes.map(([number, label]) => [number, this.given.get(number), label])
        .filter(([, before, after]) => before !== after);
      if (!step.length) return [];
      this.done.push(step);
      this.done.splice(0, this.done.length - UNDO_STEPS);
      this.undone = [];
      return this.apply(step.map(([number, , after]) => [number, after]));
    }
    undo() {
      const step = this.done.pop();
      if (!step) return [];
      this.undone.push(step);
      return this.apply(step.map(([number, before]) => [number, before]));
    }
    redo() {
      const step = this.undone.pop();
      if (!step) return [];
      this.done.push(step);
      return this.apply(step.map(([number, , after]) => [number, after]));
    }
    apply(changes) {
      const here = changes.filter(([number]) => this.cells.has(number));
      for (const [number, label] of here) {
        this.given.set(number, label);
        this.unsaved.set(number, label);
      }
      this.keep();
      this.flushSoon();
      return here.map(([number]) => number);
    }

    flushSoon() {
      clearTimeout(this.gathering);
      this.gathering = setTimeout(() => this.flush(), GATHER_MS);
    }
    // One message at a time; a message without an answer is sent again together with what came later.
    flush() {
      if (this.inFlight || !this.unsaved.size || this.isClosed) return;
      this.revision += 1;
      this.inFlight = { revision: this.revision, labels: Object.fromEntries(this.unsaved) };
      this.unsaved.clear();
      this.timer = setTimeout(() => this.retry(), RETRY_MS);
      this.keep();
      this.send({ sample: this.sample, ...this.inFlight });
      this.changed();
    }
    retry() {
      if (!this.inFlight) return;
      for (const [number, label] of Object.entries(this.inFlight.labels)) {
        if (!this.unsaved.has(Number(number))) this.unsaved.set(Number(number), label);
      }
      this.inFlight = null;
      this.isLate = true;
      this.flush();
    }
    saved(revision) {
      if (this.inFlight?.revision !== revision) return;
      clearTimeout(this.timer);
      this.inFlight = null;
      this.isLate = false;
      this.changed();
      this.flush();
    }
    close() {
      if (this.unsaved.size) {
        this.revision += 1;
        this.keep();
        this.send({ sample: this.sample, revision: this.revision, labels: Object.fromEntries(this.unsaved) });
      }
      this.isClosed = true;
      clearTimeout(this.timer);
      clearTimeout(this.gathering);
    }
  }

  window.wbcStore = { read, write, forget: (sample) => { try { sessionStorage.removeItem(keyOf(sample)); } catch { /* none */ } } };
  window.wbcReviewState = Review;
})();
