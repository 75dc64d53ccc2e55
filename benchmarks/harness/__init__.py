"""What the benchmarks share: processes and their CPU time, loads, candidates, statistics, results, tables, plots."""
