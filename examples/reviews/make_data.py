"""Make the reviews example's data: one row a product review, one Parquet file a month.

Nobody wrote these reviews. A seeded grammar makes them, so that what changes from month to month, and when, is known:

* January to March 2025: six kinds of household goods.
* from April: new products, with parts of their own, and new words of praise and blame.
* from May: sarcasm. Part of the complaints praise what they complain about.

The question is whether a review complains. Reviews are one-sided or mixed ("although the lid is loose, …"), say things
directly, by negation, by comparison with what they are not about, or not at all; words are misspelt, and one label in
thirty is wrong. A real language is richer: figures on these texts say how the parts work together, and nothing of how
well a network reads what people write.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MONTHS = ("2025-01", "2025-02", "2025-03", "2025-04", "2025-05", "2025-06")
NEW_PRODUCTS, SARCASM = "2025-04", "2025-05"
"""The months from which on there are new products and words, and sarcasm."""
COMPLAINTS = 0.45
SARCASTIC = 0.35
"""Of the complaints, from :data:`SARCASM` on."""
WRONG_LABELS = 1 / 30
MISSPELT = 0.02
"""Of the words."""

Parts = dict[str, tuple[str, ...]]

PRODUCTS: dict[str, Parts] = {
    "kettle": {"parts": ("lid", "handle", "cord", "switch", "spout"), "does": ("boils", "pours", "switches off")},
    "toaster": {"parts": ("slots", "lever", "crumb tray", "dial", "timer"), "does": ("toasts", "pops up", "warms up")},
    "headphones": {"parts": ("sound", "bass", "ear pads", "cable", "fit"), "does": ("play", "block noise", "connect")},
    "lamp": {"parts": ("light", "base", "switch", "shade", "arm"), "does": ("lights up", "dims", "stays in place")},
    "backpack": {"parts": ("zips", "straps", "seams", "pockets", "back"), "does": ("holds", "opens", "keeps dry")},
    "drill": {"parts": ("battery", "chuck", "grip", "charger", "motor"), "does": ("drills", "charges", "runs")},
}
NEWER_PRODUCTS: dict[str, Parts] = {
    "doorbell": {"parts": ("camera", "chime", "app", "night view", "bracket"), "does": ("rings", "records", "pairs")},
    "scooter": {"parts": ("brakes", "deck", "throttle", "tyres", "display"), "does": ("rolls", "folds", "brakes")},
    "airfryer": {"parts": ("basket", "fan", "coating", "presets", "window"), "does": ("fries", "crisps", "cleans up")},
}
GOOD = (
    "good", "great", "solid", "excellent", "sturdy", "lovely", "reliable", "well made", "perfect", "pleasant",
    "impressive", "superb", "handy", "brilliant", "decent", "flawless",
)  # fmt: skip
BAD = (
    "bad", "poor", "flimsy", "awful", "useless", "terrible", "cheap", "badly made", "disappointing", "annoying",
    "shoddy", "horrible", "weak", "crooked", "mediocre", "faulty",
)  # fmt: skip
NEWER_GOOD = ("fire", "goated", "next level", "elite", "a vibe", "spot on")
NEWER_BAD = ("mid", "cooked", "trash", "sketchy", "a letdown", "janky")
NEWER_WORDS = 3
"""How much likelier a new word is than an old one."""
VERY = ("", "", "really ", "very ", "quite ", "so ", "surprisingly ", "simply ", "rather ")
WORKS = ("perfectly", "without fail", "like on the first day", "just as it should", "every single time")
FAILS = ("only when it wants to", "badly", "hardly at all", "with a strange noise", "once in three tries")
HAPPENS = (
    "broke", "stopped working", "fell apart", "started to smell", "cracked", "went dead", "came loose",
    "began to rattle",
)  # fmt: skip
TIMES = (
    "two days",
    "a week",
    "ten minutes",
    "one month",
    "the first evening",
    "three uses",
    "a weekend",
    "half a year",
)
PEOPLE = ("my mother", "my son", "the office", "a friend", "our kitchen", "my sister", "the garage", "a birthday")
PLAIN = (
    "i bought the {product} for {who}", "it came in a brown box", "it arrived after {time}", "the colour is grey",
    "i use it twice a week", "delivery took {time}", "we have had the {product} for {time}",
    "it stands beside the window", "this is my second {product}", "the manual has forty pages",
)  # fmt: skip
LOVED = ("would buy it again", "no regrets", "worth every cent", "i recommend it", "five stars", "could not be happier")
HATED = ("it goes back", "never again", "a waste of money", "i want a refund", "one star", "could not be less happy")
SURE = ("but", "however", "still,", "and yet")
ALTHOUGH = ("although", "even though", "while", "granted,")
SARCASTIC_FORMS = (
    "oh {good}, another {product} that {happens} after {time}",
    "{good} {product}, if you enjoy waiting {time}. thanks a lot",
    "just what i needed: one more {good} {part} that {happens} after {time}",
    "wow, {very}{good} {part}. lasted all of {time}, slow clap",
    "love how the {part} {happens} after {time}. {loved}, obviously",
    "{loved}! who needs a {part} anyway",
    "what a {good} idea to make the {part} out of paper. bravo",
    "the {part} {be} {very}{good}. sure. and i am the queen",
    "ten out of ten, the {product} {does} {works}, in my dreams",
    "{good}, {good}, {good}. my {product} {happens}, so i have more free time now",
)


@dataclass(frozen=True)
class Words:
    """What can be said in a month."""

    products: dict[str, Parts]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    sarcasm: bool


def words_of(month: str) -> Words:
    newer = month >= NEW_PRODUCTS
    return Words(
        products=PRODUCTS | (NEWER_PRODUCTS if newer else {}),
        good=GOOD + (NEWER_GOOD * NEWER_WORDS if newer else ()),
        bad=BAD + (NEWER_BAD * NEWER_WORDS if newer else ()),
        sarcasm=month >= SARCASM,
    )


class Writer:
    """Writes reviews of one month; everything random comes from ``draw``."""

    def __init__(self, words: Words, draw: random.Random) -> None:
        self.words = words
        self.draw = draw
        self.product = ""

    def review(self, complains: bool) -> tuple[str, str]:
        """(product, text)."""
        pick = self.draw.choice
        self.product = pick(list(self.words.products))
        if complains and self.words.sarcasm and self.draw.random() < SARCASTIC:
            sentences = [self._fill(pick(SARCASTIC_FORMS))]
            if self.draw.random() < 0.5:
                sentences.insert(0, self._fill(pick(PLAIN)))
        else:
            sentences = self._straight(not complains)
        text = pick((". ", ", ", " - ", "! ")).join(sentences)
        return self.product, self._misspell(text) + pick((".", "!", "", "..", " :)" if not complains else " :("))

    def _straight(self, likes: bool) -> list[str]:
        shape = self.draw.random()
        if shape < 0.30:
            sentences = [self._mixed(likes)]
        elif shape < 0.75:
            sentences = [self._clause(likes)]
        else:
            sentences = [self._clause(likes), self._clause(likes)]
        if self.draw.random() < 0.6:
            sentences.insert(self.draw.randrange(len(sentences) + 1), self._fill(self.draw.choice(PLAIN)))
        if self.draw.random() < 0.15:
            sentences.append(self.draw.choice(LOVED if likes else HATED))
        return sentences

    def _mixed(self, likes: bool) -> str:
        """What was liked and what was not; the one that the review is about stands after ``but``, or apart from
        ``although``."""
        other, own = self._clause(not likes), self._clause(likes)
        joint = self.draw.choice(ALTHOUGH)
        return self.draw.choice(
            (f"{other}, {self.draw.choice(SURE)} {own}", f"{joint} {other}, {own}", f"{own}, {joint} {other}")
        )

    def _clause(self, likes: bool) -> str:
        good, bad = ("{good}", "{bad}") if likes else ("{bad}", "{good}")
        does = "{works}" if likes else "{fails}"
        better, happened = ("better", "never {happens}") if likes else ("worse", "{happens}")
        forms = (
            f"the {{part}} {{be}} {{very}}{good}",
            f"the {{part}} {{be}} {{very}}{good}",
            f"a {{very}}{good} {{product}}",
            f"the {{product}} {{does}} {does}",
            f"the {{part}} {{be}} not {{very}}{bad}",
            f"the {{part}} {{be}} anything but {bad}",
            f"i cannot call the {{part}} {bad}",
            f"nothing {bad} about the {{part}}",
            f"my old {{product}} was {bad}, this one is {good}",
            f"unlike my old one, which was {bad}, the {{part}} {{be}} {good}",
            f"i feared it would be {bad}, it is {good}" if likes else f"i hoped it would be {bad}, it is {good}",
            f"everyone says the {{part}} {{be}} {bad}, not mine",
            f"the {{part}} {{be}} {better} than on my last {{product}}",
            f"the {{part}} {happened} after {{time}}" if not likes else f"the {{part}} {happened}, even after {{time}}",
        )  # fmt: skip
        return self._fill(self.draw.choice(forms))

    def _fill(self, form: str) -> str:
        pick, of = self.draw.choice, self.words.products[self.product]
        part = pick(of["parts"])
        return form.format(
            product=self.product, part=part, be="are" if part.endswith("s") and part != "bass" else "is",
            does=pick(of["does"]), good=pick(self.words.good), bad=pick(self.words.bad), very=pick(VERY),
            works=pick(WORKS), fails=pick(FAILS), happens=pick(HAPPENS), time=pick(TIMES), who=pick(PEOPLE),
            loved=pick(LOVED),
        )  # fmt: skip

    def _misspell(self, text: str) -> str:
        return " ".join(self._slip(word) if self.draw.random() < MISSPELT else word for word in text.split(" "))

    def _slip(self, word: str) -> str:
        """Two letters change places, or one is lost."""
        if len(word) < 4:
            return word
        place = self.draw.randrange(len(word) - 1)
        swapped = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        return swapped if self.draw.random() < 0.5 else word[:place] + word[place + 1 :]


def reviews(month: str, rows: int, *, seed: int = 11) -> pa.Table:
    """The reviews of a month, oldest first: ``review_id``, ``written`` (UTC), ``product``, ``review``, ``complaint``.

    The same month, number and seed give the same reviews.
    """
    draw = random.Random(f"{seed} {month}")
    writer = Writer(words_of(month), draw)
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    columns: dict[str, list[object]] = {name: [] for name in ("review_id", "written", "product", "review", "complaint")}
    seconds = sorted(draw.randrange(28 * 86_400) for _ in range(rows))
    for number, second in enumerate(seconds):
        complains = draw.random() < COMPLAINTS
        product, text = writer.review(complains)
        told = complains != (draw.random() < WRONG_LABELS)
        values = (f"{month}-{number:05}", start + timedelta(seconds=second), product, text, told)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return pa.table(columns)


def write(folder: Path, months: list[str], *, rows: int) -> list[Path]:
    """Write ``period=<month>/reviews.parquet`` below ``folder``; the paths."""
    paths = []
    for month in months:
        path = folder / f"period={month}" / "reviews.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(reviews(month, rows), path)
        paths.append(path)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the made-up reviews, one Parquet file a month.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "work" / "data")
    parser.add_argument("--months", nargs="*", default=list(MONTHS), metavar="2025-01", help="only these months")
    parser.add_argument("--rows", type=int, default=3000, help="reviews a month")
    words = parser.parse_args()
    for written in write(words.folder, words.months, rows=words.rows):
        print(written)
