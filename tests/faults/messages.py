"""Messages that vanish, or come too often."""

import signal

from tests.faults.report import Report
from tests.faults.rig import HEALS_WITHIN, Rig
from tests.faults.trial import Trial
from tests.waiting import wait_until

# Puts the messages of a queue into another order; the seed makes it the same one each time.
_SHUFFLE = """
local messages = redis.call('LRANGE', KEYS[1], 0, -1)
if #messages < 2 then return 0 end
math.randomseed(ARGV[1])
for i = #messages, 2, -1 do
  local j = math.random(i)
  messages[i], messages[j] = messages[j], messages[i]
end
redis.call('DEL', KEYS[1])
for _, message in ipairs(messages) do redis.call('RPUSH', KEYS[1], message) end
return #messages
"""


def queue_deletion(trial: Trial) -> Report:
    """All queues and the messages in hand deleted in mid-run; workers frozen while they wait for a message, and killed.

    A message sent to a frozen worker is in no queue any more. Requests come through the inbox. None lost, no PUT
    repeated, healed within two leases.
    """
    rounds = trial.size(3, 20)
    report, deleted = trial.report(), 0
    with Rig(trial, latency=0.1) as rig:
        rig.start()
        rig.established.connect(trial.size(1, 5))
        for turn in range(rounds):
            if turn == rounds - 1:
                rig.catch_up()
            rig.established.ask(turn, rounds)
            rig.feed(rig.add_merchants(20, f"deleted-{turn}-{{n}}"), within=0.5)
            rig.until(lambda: _messages(rig) >= trial.dice.randint(8, 24), 5)
            deleted += _messages(rig)
            rig.redis.delete("occ", "occ.steps", "occ.tick", "unacked", "unacked_index")
            name = rig.consuming_worker()
            rig.processes[name].send_signal(signal.SIGSTOP)
            rig.feed(rig.add_merchants(5, f"swallowed-{turn}-{{n}}"), within=0.5)
            rig.go_on(trial.dice.uniform(0.8, 1.5))
            rig.kill(name, signal.SIGKILL)
            rig.struck()
            rig.start_again(name)
            rig.go_on(trial.size(0, 3))  # else the backlog decides when all are done
        report.own |= {"rounds": rounds, "messages_deleted": deleted}
        report.require(deleted >= rounds * 4, "the queues were empty already")
        return rig.finish(report, repeated_puts=rounds / 2, heals_within=HEALS_WITHIN)


def _messages(rig: Rig) -> int:
    return int(rig.redis.llen("occ.steps") + rig.redis.hlen("unacked"))


def duplicate_storm(trial: Trial) -> Report:
    """Every request and every task message three times, the copies late and in random order.

    No PUT is repeated, no outcome recorded twice, and each merchant has one run.
    """
    merchants, rate = trial.size(40, 500), trial.size(20, 5)  # the many at a rate that leaves no backlog to wait for
    report = trial.report()
    with Rig(trial) as rig:
        rig.may_repeat = True
        rig.start(FAULTS_COPIES="3")
        rig.established.connect(trial.size(1, 5))
        for life in rig.established.lives.values():
            life.copies = 1 if life.kind == "comes_back" else 3  # a copy that comes later would send it away again
        stores = rig.add_merchants(merchants)
        for door in (rig.send, rig.post, rig.send):
            rig.feed(stores, within=merchants / rate, door=door)
            trial.dice.shuffle(stores)
        shuffle = rig.redis.register_script(_SHUFFLE)
        turns, shuffled = int((merchants / rate + 2) / 0.1), 0
        for turn in range(turns):
            rig.established.ask(turn, turns)
            rig.go_on(0.1)
            for queue in ("occ", "occ.steps"):
                shuffled += int(shuffle(keys=[queue], args=[trial.dice.randrange(1 << 30)]))
        rig.struck()
        rig.finish(report, heals_within=HEALS_WITHIN)
        wait_until(lambda: not rig.redis.llen("occ.steps"), within=20, what="the last copies")
        rig.go_on(2.5)
        runs = {one.connection.run for one in rig.records.load_many(list(rig.expected)) if one.connection}
        report.own |= {"messages_shuffled": shuffled, "runs": sorted(runs)}
        report.require(runs == {1}, f"runs {sorted(runs)}")
        return report
