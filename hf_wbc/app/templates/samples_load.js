// Choose a sample, or begin one.
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button?.dataset.sample) trigger('choose', { sample: Number(button.dataset.sample) });
  else if (button && 'begin' in button.dataset) trigger('begin', {});
});
