"""Goals of the product. Reports show them beside the figures. No test asserts them, because machines differ."""

# Of CPU, theirs over ours (benchmarks.ratios).
RATIO_MIN = {
    "create_vs_plain": 3.0,
    "create_vs_floor": 0.45,
    "create_vs_fastapi_idempotency": 1.5,
    "replay_vs_fastapi_idempotency": 1.2,
    "create_vs_idemkit": 3.5,
    "replay_vs_idemkit": 5.0,
}
COLD_START_MAX = 1.2  # s
MEMORY_MAX = 80.0  # MiB, resident, of one worker
