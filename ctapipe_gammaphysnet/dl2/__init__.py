"""DL2: containers, columns, files, and the combination of telescopes."""
