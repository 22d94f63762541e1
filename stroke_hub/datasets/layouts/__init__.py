"""How datasets are laid out, a module for each layout: whether a folder is one, and its table of scans."""
