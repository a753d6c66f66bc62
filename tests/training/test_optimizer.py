"""The step is AdamW's, and its rate rises, then stays or falls."""

import pytest
import torch

from training.optimizer import adamw, share_of_rate


def test_a_step_is_the_one_of_the_paper():
    """Decay apart from the moments, which are corrected for their start; to rounding."""
    torch.manual_seed(0)
    start, gradients = torch.randn(30, 7), torch.randn(5, 30, 7)
    parameter = torch.nn.Parameter(start.clone())
    made = adamw([(0.1, [parameter])], 0.05)
    expected, mean, square = start.double(), torch.zeros(30, 7).double(), torch.zeros(30, 7)
    for number, gradient in enumerate(gradients, 1):
        parameter.grad = gradient.clone()
        made.step()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient.double() ** 2
        root = (square / (1 - 0.999**number)).sqrt() + 1e-8
        expected = expected * (1 - 0.1 * 0.05) - 0.1 * mean / (1 - 0.9**number) / root
    assert torch.allclose(parameter.detach().double(), expected, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rate_rises_then_stays_or_falls_to_the_end(schedule):
    """Never above the peak, and never 0 at first; the last step of a falling one is near rest."""
    shares = [share_of_rate(schedule, 10, 100, step) for step in range(100)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert max(shares) == 1
    after = shares[10:]
    assert after == sorted(after, reverse=True)
    assert shares[-1] == 1 if schedule == "constant" else shares[-1] < 0.02
