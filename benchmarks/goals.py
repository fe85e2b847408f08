"""Goals of the product. Reports show them beside the figures. No test asserts them, because machines differ."""

RATIO_MIN = {
    "create_vs_p1": 0.90,
    "create_vs_plain": 1.2,
    "replay_vs_plain": 6.0,
    "create_vs_floor": 0.40,
    "rollouts_304_vs_plain": 8.0,
    "ofrep_vs_plain": 5.0,
    "create_vs_best_peer": 1.5,
    "create_vs_best_database_peer": 2.5,
    "replay_vs_best_peer": 2.0,
    "replay_vs_best_authenticating_peer": 2.0,
}
COLD_START_MAX = 1.5  # s
MEMORY_MAX = 90.0  # MiB, resident, of one worker
