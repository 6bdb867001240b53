"""Who must act, in words for people."""

from collections.abc import Mapping

from integrations.connections.causes import Actor

MUST_ACT: Mapping[Actor, str] = {
    Actor.MERCHANT: "The merchant must act.",
    Actor.OPERATOR: "The operator of this installation must act.",
    Actor.ORACLE: "Oracle, or whoever runs the store, must act.",
    Actor.NOBODY: "Nobody has to act.",
}
