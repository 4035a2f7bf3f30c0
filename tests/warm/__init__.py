"""Start the program without importing torch each time.

A server process (:mod:`tests.warm.server`) imports torch and the program once and forks per
command; :class:`tests.warm.process.WarmProcess` starts one there and looks like a
``subprocess.Popen``. Signals, terminals, sessions and exit codes are those of a real process.
"""
