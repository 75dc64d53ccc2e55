"""The loop, timers, the scheduler, waiting, worker threads and the watchdog, without a protocol."""
