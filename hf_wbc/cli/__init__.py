"""One file a command; heavy libraries are imported when a command runs, not when help is shown."""
