watch('value', () => window.wbcReview.zoomed(element));
