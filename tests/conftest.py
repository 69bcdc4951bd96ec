"""What every test starts from: one seed, gradients on, double precision nowhere by default."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
