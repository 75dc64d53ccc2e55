"""The engine: event loop, timers, worker threads, and the task scheduler. Private."""
