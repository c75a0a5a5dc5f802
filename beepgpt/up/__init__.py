"""Live on one machine: which commands run on a data folder, in which order, and that they run on."""
