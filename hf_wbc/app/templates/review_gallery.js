// Connects the component, the state of a review and its view; `window.wbcReview` is what the page uses.
(() => {
  const places = new Map();  // element -> {trigger, view}

  const close = (place) => {
    place.view?.review.close();
    place.view?.root.remove();
    place.view = null;
  };
  // Gradio redraws what is inside the component, so the gallery stands behind it.
  const show = (element) => {
    const place = places.get(element), source = element.querySelector('[data-review]');
    const before = place.view?.options(), hasFocus = Boolean(place.view?.root.contains(document.activeElement));
    close(place);
    if (!source) return;
    const data = JSON.parse(source.textContent);
    const review = new window.wbcReviewState(data, place.trigger.save, () => place.view?.progress());
    place.view = new window.wbcReviewView(review, place.trigger.zoom, before);
    element.after(place.view.root);
    place.view.draw();
    window.wbcReviewKeys(place.view);
    if (hasFocus) place.view.goOn();  // the keys go on working
  };
  const views = () => [...places.values()].map((place) => place.view).filter(Boolean);

  // The acknowledgement of a message comes inside some output of the event.
  const seen = new WeakMap();
  const acknowledged = () => {
    for (const mark of document.querySelectorAll('[data-saved-revision]')) {
      const { savedSample, savedRevision } = mark.dataset;
      if (seen.get(mark) === `${savedSample} ${savedRevision}`) continue;
      seen.set(mark, `${savedSample} ${savedRevision}`);
      for (const { review } of views()) {
        if (review.sample === Number(savedSample)) review.saved(Number(savedRevision));
      }
    }
  };
  new MutationObserver(acknowledged).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ['data-saved-revision', 'data-saved-sample'],
  });

  window.addEventListener('beforeunload', (event) => {
    if (views().some(({ review }) => review.hasUnsaved)) event.preventDefault();
  });

  window.wbcReview = {
    mount: (element, trigger) => { places.set(element, { trigger, view: null }); show(element); },
    show,
    zoomed: (element) => { for (const view of views()) view.zoomed(element); },
    // The review inside an element of the page, such as '#many-cells'; undefined without cells.
    of: (selector) => [...places].find(([element, { view }]) => view && element.closest(selector))?.[1].view.review,
  };
})();
