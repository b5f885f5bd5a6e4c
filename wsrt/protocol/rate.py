"""Rates."""
from __future__ import annotations
def parse_rate(text: str | None) -> float | None:
    if text is None: return None
    n, _, unit = text.partition("/")
    return float(n) / {"s": 1, "m": 60, "h": 3600}[unit]
class TokenBucket:
    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst, self.tokens, self.at = rate, burst, float(burst), now
    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate); self.at = now
        if self.tokens < 1: return False
        self.tokens -= 1; return True
