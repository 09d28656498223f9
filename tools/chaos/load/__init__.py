"""The load of a chaos run: clients that send on their own schedule, whatever happens."""

from tools.chaos.load.load import Load
from tools.chaos.load.wallets import WalletPlan, Wallets

__all__ = ["Load", "WalletPlan", "Wallets"]
