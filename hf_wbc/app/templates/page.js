(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.innerText;
    const number = Number(text);
    return text !== '' && !Number.isNaN(number) ? number : text.toLowerCase();
  };
  const sort = (button) => {
    const head = button.closest('th');
    const table = head.closest('table');
    const up = head.getAttribute('aria-sort') !== 'ascending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const rows = [...table.tBodies[0].rows];
    const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
    rows.sort((a, b) => order(value(a, head.cellIndex), value(b, head.cellIndex)));
    table.tBodies[0].append(...rows);
  };
  const filter = (section) => {
    const of = (name) => section.querySelector(`[data-filter=${name}]`);
    const look = of('look').checked, label = of('label').value, name = of('name').value.toLowerCase();
    let shown = 0;
    const rows = section.querySelectorAll('tbody tr');
    for (const row of rows) {
      const is = (!look || row.dataset.look === '1') && (!label || row.dataset.label === label)
        && row.dataset.name.includes(name);
      row.hidden = !is;
      shown += is;
    }
    section.querySelector('[data-shown]').textContent = `${shown} of ${rows.length} shown`;
  };
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('table.sort th button');
    if (button) sort(button);
  });
  document.addEventListener('input', (event) => {
    if (event.target.matches?.('[data-filter]')) filter(event.target.closest('section'));
  });
  window.wbcSay = (words) => {
    let region = document.getElementById('wbc-say');
    if (!region) {
      region = document.createElement('div');
      region.id = 'wbc-say';
      region.setAttribute('role', 'status');
      region.setAttribute('aria-live', 'polite');
      region.style.cssText = 'position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)';
      document.body.append(region);
    }
    region.textContent = '';
    setTimeout(() => { region.textContent = words; }, 50);
  };
  window.wbcSave = (file) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([file.text], { type: file.kind }));
    link.download = file.name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
})();
