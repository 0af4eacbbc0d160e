watch('value', () => {
  const what = element.querySelector('.headline h2, .warning, .note, h2');
  if (what) window.wbcSay(what.innerText);
});
