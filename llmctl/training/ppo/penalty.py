"""How strongly the policy is held to the reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Penalty:
    """`beta`, and what it is adapted to: without a target it stays."""

    beta: float
    target: float | None = None
    horizon: int = 1000

    def update(self, kl: float, answers: int) -> None:
        """Follow the KL of whole answers, in nats (Ziegler et al. 2019, section 2.2).

        e = clip(kl / target - 1, -0.2, 0.2); beta <- beta (1 + e answers / horizon).
        """
        if self.target is None:
            return
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * answers / self.horizon
