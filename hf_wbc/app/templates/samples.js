// What only the browser knows: the tab's key, the names of the samples, who reviews, and the signature.
(() => {
  const { sessionStorage: store } = window;
  const read = () => { try { return JSON.parse(store.getItem('wbc-samples')) ?? {}; } catch { return {}; } };
  const write = (change) => { try { store.setItem('wbc-samples', JSON.stringify({ ...read(), ...change })); } catch { /* kept on the page only */ } };
  const nameOf = (sample) => read().names?.[sample]?.trim() || `Sample ${sample}`;
  const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };

  const fill = () => {
    for (const element of document.querySelectorAll('[data-sample-name]')) setText(element, nameOf(element.dataset.sampleName));
    for (const input of document.querySelectorAll('input[data-name-of]')) {
      const name = read().names?.[input.dataset.nameOf] ?? '';
      if (input !== document.activeElement && input.value !== name) input.value = name;
    }
    for (const input of document.querySelectorAll('input[data-reviewer]')) {
      if (input !== document.activeElement && input.value !== (read().reviewer ?? '')) input.value = read().reviewer ?? '';
    }
    drawSignature();
  };
  const review = () => window.wbcReview?.of('#many-cells');
  const fingerprint = (found) => JSON.stringify([...found.given]);
  const signature = () => {
    const found = review(), kept = found && read().signed?.[found.sample];
    return kept && kept.of === fingerprint(found) && kept.by === (read().reviewer ?? '').trim() ? kept : null;
  };
  const drawSignature = () => {
    const note = document.querySelector('[data-signature]'), box = document.querySelector('input[data-sign]');
    if (!note || !box) return;
    const signed = signature(), found = review(), reviewer = (read().reviewer ?? '').trim();
    const left = found ? found.cells.size - found.numReviewed : 0;
    box.checked = Boolean(signed);
    box.disabled = !reviewer;
    setText(note, signed ? `Signed by ${signed.by}, ${signed.at}.`
      : !reviewer ? 'Enter your name to sign.'
        : left ? `Not signed. ${left} cells are not reviewed; the report says so.` : 'Not signed.');
  };
  const sign = (isSigned) => {
    const found = review();
    if (!found) return;
    const at = new Date(), two = (n) => String(n).padStart(2, '0');
    const when = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
    const mark = isSigned ? { by: read().reviewer.trim(), at: when, iso: at.toISOString(), of: fingerprint(found) } : null;
    write({ signed: { ...read().signed, [found.sample]: mark } });
    drawSignature();
  };

  document.addEventListener('input', ({ target }) => {
    if (target.dataset?.nameOf) write({ names: { ...read().names, [target.dataset.nameOf]: target.value } });
    else if (target.dataset?.reviewer !== undefined) write({ reviewer: target.value });
    else if (target.dataset?.sign !== undefined) sign(target.checked);
    else return;
    fill();
  });
  // Forget the samples that a person has discarded.
  const tidy = () => {
    const list = document.querySelector('[data-samples]');
    if (!list) return;
    const left = list.dataset.samples.split(' '), kept = read();
    for (const sample of kept.known ?? []) if (!left.includes(sample)) window.wbcStore.forget(sample);
    const only = (values) => Object.fromEntries(Object.entries(values ?? {}).filter(([sample]) => left.includes(sample)));
    if (kept.known?.join(' ') !== list.dataset.samples) write({ known: left, names: only(kept.names), signed: only(kept.signed) });
  };
  window.wbcWatch(() => { tidy(); fill(); }, ['data-sample-name', 'data-name-of', 'data-samples', 'data-state']);

  window.addEventListener('beforeunload', (event) => {
    const found = review();
    if (found?.numReviewed && read().downloaded?.[found.sample] !== fingerprint(found)) event.preventDefault();
  });

  window.wbcTabKey = () => {
    const { key } = read();
    if (key) return key;
    const made = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    write({ key: made });
    return made;
  };
  window.wbcReportFacts = () => {
    const found = review(), { names, reviewer } = read();
    if (found) write({ downloaded: { ...read().downloaded, [found.sample]: fingerprint(found) } });
    return { sample: found?.sample ?? null, labels: found?.unsavedLabels() ?? {}, names: names ?? {}, reviewer: reviewer ?? '', signed: signature()?.iso ?? '' };
  };
})();
