"""The rewards that have no terms of their own, by name; `Weighted` is made of them."""

from comity.rewards.base import BaseReward
from comity.rewards.deontological import AntiDeontological, Deontological
from comity.rewards.legal import Legal
from comity.rewards.own import Altruist, AntiAltruist, Own
from comity.rewards.peers import Peers
from comity.rewards.utilitarian import AntiUtilitarian, Utilitarian
from comity.rewards.virtue import Aggression, Equality, Inequality, Kindness, MixedVirtue

SIMPLE_REWARDS: dict[str, type[BaseReward]] = {
    "own": Own,
    "utilitarian": Utilitarian,
    "deontological": Deontological,
    "equality": Equality,
    "kindness": Kindness,
    "mixed_virtue": MixedVirtue,
    "altruist": Altruist,
    "legal": Legal,
    "peers": Peers,
    "anti_utilitarian": AntiUtilitarian,
    "anti_deontological": AntiDeontological,
    "anti_altruist": AntiAltruist,
    "inequality": Inequality,
    "aggression": Aggression,
}
