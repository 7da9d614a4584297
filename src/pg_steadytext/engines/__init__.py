"""Models: a small protocol, one file an engine, a catalogue, and a registry that loads each model once."""
