"""Any image to a character: clean-up, model files, the network that comes with the repository, the page to draw on."""
