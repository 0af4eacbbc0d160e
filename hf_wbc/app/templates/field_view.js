// A box of a field shows its cell beside the field; chosen again, it goes to the cell's card in the gallery.
(() => {
  document.addEventListener('click', (event) => {
    const box = event.target.closest?.('.field-box');
    if (!box) return;
    const view = box.closest('.field-view'), isAgain = box.getAttribute('aria-pressed') === 'true' && box.dataset.chosen;
    for (const each of view.querySelectorAll('.field-box')) delete each.dataset.chosen;
    box.dataset.chosen = 'true';
    for (const each of view.querySelectorAll('.field-box')) each.setAttribute('aria-pressed', String(each === box));
    for (const each of view.querySelectorAll('[data-shown]')) each.hidden = each.dataset.shown !== box.dataset.box;
    window.wbcSay(view.querySelector(`[data-shown="${box.dataset.box}"] figcaption`).innerText);
    if (!isAgain) return;
    const gallery = view.closest('.tabitem')?.querySelector('#many-cells');
    const card = gallery?.querySelector(`[data-cell="${box.dataset.box}"]`);
    card?.scrollIntoView({ block: 'center' });
    card?.focus();
  });
})();
