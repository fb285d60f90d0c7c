#!/usr/bin/env python3
"""Side by side with Python packages: rliable 1.2.0, rouge-score 0.1.2, trueskill 0.4.5.

  python benches/peers.py PATH_TO_SPEED [--rounds 3]

PATH_TO_SPEED is the release build of examples/speed.rs. Each round runs ours and the peer in turn on the same inputs; the
medians of the rates are printed as a Markdown table. One thread each; CPU time.
"""
import argparse, json, os, statistics, subprocess, time

for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(v, "1")

MASK = (1 << 64) - 1


class Lcg:
    def __init__(self, state):
        self.state = state

    def next(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return self.state >> 33

    def uniform(self):
        return self.next() / (1 << 31)


def iqm():
    import numpy as np
    from rliable import library, metrics

    rng = Lcg(1)
    data = {str(m): np.array([[rng.uniform() for _ in range(26)] for _ in range(10)]) for m in range(5)}
    reps = 2000
    start = time.process_time()
    _, intervals = library.get_interval_estimates(data, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=reps)
    used = time.process_time() - start
    return 5 * reps, used, sum(float(i[1][0] - i[0][0]) / 2 for i in intervals.values())


def rouge():
    from rouge_score import rouge_scorer

    rng = Lcg(1)
    text = lambda: " ".join(f"w{rng.next() % 500}" for _ in range(40))
    pairs = [(text(), text()) for _ in range(2000)]
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    start = time.process_time()
    total = sum(scorer.score(reference, prediction)["rougeL"].fmeasure for prediction, reference in pairs)
    return len(pairs), time.process_time() - start, total / len(pairs)


def trueskill():
    import trueskill as ts

    rng, env = Lcg(1), ts.TrueSkill()
    ratings = [env.create_rating() for _ in range(17)]
    n = 20000
    start = time.process_time()
    for _ in range(n):
        first = rng.next() % 17
        second = (first + 1 + rng.next() % 16) % 17
        drawn = rng.next() % 10 == 0
        ratings[first], ratings[second] = env.rate_1vs1(ratings[first], ratings[second], drawn=drawn)
    return n, time.process_time() - start, sum(r.mu for r in ratings)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("speed")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| what | ours per s | peer per s | ratio | load |\n|---|---:|---:|---:|---:|")
    for name, peer in (("iqm", iqm), ("rouge", rouge), ("trueskill", trueskill)):
        ours, theirs = [], []
        for _ in range(args.rounds):
            out = json.loads(subprocess.run([args.speed, name], capture_output=True, check=True, text=True).stdout)
            ours.append(out["work"] / out["seconds"])
            work, used, _ = peer()
            theirs.append(work / used)
        a, b = statistics.median(ours), statistics.median(theirs)
        spread = lambda v: f"{statistics.median(v):,.0f} ({min(v):,.0f}–{max(v):,.0f})"
        print(f"| {name} | {spread(ours)} | {spread(theirs)} | {a / b:.0f} | {os.getloadavg()[0]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
