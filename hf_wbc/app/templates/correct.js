element.addEventListener('change', (event) => {
  const select = event.target.closest('select[data-cell]');
  if (!select) return;
  select.closest('tr').classList.toggle('corrected', select.value !== '');
  trigger('correct', { number: Number(select.dataset.cell), label: select.value });
});
