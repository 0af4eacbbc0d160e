"""One file per training method; the file name is the method's name."""
