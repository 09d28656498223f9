"""The load of a chaos run: clients that send on their own schedule, whatever happens."""

from ops.chaos.load.load import Load
from ops.chaos.load.wallets import WalletPlan, Wallets

__all__ = ["Load", "WalletPlan", "Wallets"]
