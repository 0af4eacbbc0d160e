// A box of a field shows its cell beside the field, and the same cell in the gallery.
(() => {
  document.addEventListener('click', (event) => {
    const box = event.target.closest?.('.field-box');
    if (!box) return;
    const view = box.closest('.field-view');
    for (const each of view.querySelectorAll('.field-box')) each.setAttribute('aria-pressed', String(each === box));
    for (const each of view.querySelectorAll('[data-shown]')) each.hidden = each.dataset.shown !== box.dataset.box;
    window.wbcSay(view.querySelector(`[data-shown="${box.dataset.box}"] figcaption`).innerText);
    const gallery = view.closest('.tabitem')?.querySelector('#many-cells');
    const card = gallery?.querySelector(`[data-cell="${box.dataset.box}"]`);
    card?.scrollIntoView({ block: 'nearest' });
  });
})();
