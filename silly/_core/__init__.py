"""The engine: event loop, timers, worker threads, and the scheduler of tasks. Private."""
