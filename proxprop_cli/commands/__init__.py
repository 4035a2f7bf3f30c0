"""One file per command or group: parse, call the engine, print."""
