"""The audit log: entries written with each change, the one sequencer, reading, retention, verification."""
