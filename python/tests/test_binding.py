"""Which argument of a stage's function receives what."""

from __future__ import annotations

import functools
import sys
import types
import unittest
from dataclasses import dataclass, field
from typing import Annotated, Any, Optional

import support  # noqa: F401  (puts the package on the path)

from pivot._binding import plan
from pivot._errors import PivotError
from pivot._params import overrides_for, resolve
from pivot._signature import signature_of


@dataclass
class Inner:
    depth: int = 1


@dataclass
class Train:
    lr: float = 0.01
    epochs: int = 100
    inner: Inner = field(default_factory=Inner)


def call(
    function: Any,
    declared: Any = None,
    overrides: dict[str, Any] | None = None,
    deps: tuple[str, ...] = (),
    outs: tuple[str, ...] = (),
    variant: str | None = None,
) -> Any:
    """Calls ``function`` as a run after an inspection would."""
    signature = signature_of(function)
    params = resolve("s", declared, signature, overrides or {})
    effective, _ = params.effective(overrides or {})
    counts: dict[str, Any] = {"deps": len(deps), "outs": len(outs), "variant": variant}
    plan("s", signature, params, effective, **counts)
    # The run knows the effective params only.
    params = resolve("s", declared, signature, effective)
    bound = plan("s", signature, params, effective, **counts)
    arguments, named = bound.arguments(deps, outs, variant, params.received(effective))
    return function(*arguments, **named)


class Order(unittest.TestCase):
    def test_defaults_are_kept(self):
        def train(data_file="processed.parquet", lr=0.01):
            return data_file, lr

        self.assertEqual(call(train, deps=("a",)), ("processed.parquet", 0.01))
        self.assertEqual(call(train, {"lr": 0.5}, deps=("a",)), ("processed.parquet", 0.5))

    def test_paths_fill_what_is_left_in_order(self):
        def work(data, extra, model, lr, *, seed=3):
            return data, extra, model, lr, seed

        found = call(work, {"lr": 1}, deps=("a", "b"), outs=("m", "n"))
        self.assertEqual(found, ("a", "b", "m", 1, 3))

    def test_unused_paths_are_fine(self):
        self.assertEqual(call(lambda: 1, deps=("a",), outs=("b",)), 1)

    def test_variant(self):
        self.assertEqual(call(lambda variant: variant, variant="bert"), "bert")
        self.assertEqual(call(lambda variant="none": variant), "none")
        self.assertEqual(call(lambda variant: variant, {"variant": "x"}, variant="bert"), "x")

    def test_positional_only(self):
        def work(a, b=2, /, c=3, *, d=4):
            return a, b, c, d

        self.assertEqual(call(work, {"c": 9}, deps=("x",)), ("x", 2, 9, 4))
        self.assertEqual(call(work, {"b": 7}, deps=("x",)), ("x", 7, 3, 4))

    def test_whole_mapping(self):
        def work(params, lr=0):
            return params, lr

        self.assertEqual(call(work, {"lr": 1, "free": [1]}), ({"lr": 1, "free": [1]}, 1))
        self.assertEqual(call(work, {}, {"new": 1}), ({"new": 1}, 0))

    def test_variadic_arguments(self):
        def work(first, *args, **kwargs):
            return first, args, kwargs

        self.assertEqual(call(work, {"a": 1, "first": "f"}), ("f", (), {"a": 1}))
        self.assertEqual(call(work, None, {"b": 2}, deps=("d", "e")), ("d", (), {"b": 2}))


class Wrappers(unittest.TestCase):
    def test_wraps_shows_the_inner_arguments(self):
        def inner(data, lr=1, *, seed=2):
            return data, lr, seed

        @functools.wraps(inner)
        def both(*args, **kwargs):
            return inner(*args, **kwargs)

        @functools.wraps(inner)
        def positional(*args):
            return inner(*args)

        for function in (both, functools.lru_cache(inner)):
            self.assertEqual(call(function, {"lr": 5, "seed": 6}, deps=("d",)), ("d", 5, 6))
        self.assertEqual(call(positional, {"lr": 5}, deps=("d",)), ("d", 5, 2))

    def test_a_wrapper_with_arguments_of_its_own_is_believed(self):
        def inner(connection, path):
            return connection, path

        @functools.wraps(inner)
        def outer(path):
            return inner("connected", path)

        self.assertEqual(call(outer, deps=("d",)), ("connected", "d"))

    def test_partials_and_objects(self):
        def work(a, b, c=0):
            return a, b, c

        class Callable:
            def __call__(self, data, lr):
                return data, lr

            @classmethod
            def make(cls, data):
                return data

        self.assertEqual(call(functools.partial(work, 1), deps=("d",)), (1, "d", 0))
        self.assertEqual(call(functools.partial(work, b=2), deps=("d",)), ("d", 2, 0))
        self.assertEqual(call(Callable(), {"lr": 1}, deps=("d",)), ("d", 1))
        self.assertEqual(call(Callable.make, deps=("d",)), "d")

    def test_hostile_wrapped(self):
        def work(a):
            return a

        work.__wrapped__ = work  # type: ignore[attr-defined]
        self.assertEqual(call(work, deps=("d",)), "d")


class Models(unittest.TestCase):
    def test_class_or_instance(self):
        def work(params: Train):
            return params

        self.assertEqual(call(work, Train), Train())
        self.assertEqual(call(work, Train, {"lr": 1.0}), Train(lr=1.0))
        self.assertEqual(call(work, Train(epochs=5), {"lr": 1.0}), Train(1.0, 5))
        nested = Train(inner=Inner(7))
        self.assertEqual(call(work, nested, {"inner": {"depth": 8}}).inner, Inner(8))

    def test_received_by_annotation_name_or_field(self):
        expected = Train()
        self.assertEqual(call(lambda params: params, Train), expected)

        def optional(p: Optional[Train], q=1):  # noqa: UP045
            return p

        def union(p: Train | None):
            return p

        def annotated(p: Annotated[Train, "note"]):
            return p

        def text(p: "Train"):  # noqa: UP037
            return p

        def unknown(x: "Missing", p: "other.Train"):  # noqa: F821, UP037
            return p

        for function in (optional, union, annotated, text):
            self.assertEqual(call(function, Train), expected, function)
        self.assertEqual(call(unknown, Train, deps=("d",)), expected)
        self.assertEqual(call(lambda lr, epochs: (lr, epochs), Train, {"lr": 2.0}), (2.0, 100))
        self.assertEqual(call(lambda **kw: kw, Train), {"params": expected})

    def test_implied_by_the_function(self):
        def annotated(data, params: Train):
            return params

        def default(data, options=Train(epochs=7)):
            return options

        def beside(lr=0.1, options: Train = Train()):
            return lr, options

        self.assertEqual(call(annotated, deps=("d",)), Train())
        self.assertEqual(call(annotated, {"lr": 3.0}, {"epochs": 2}, deps=("d",)), Train(3.0, 2))
        self.assertEqual(call(default, None, {"lr": 3.0}, deps=("d",)), Train(3.0, 7))
        self.assertEqual(call(beside, {"lr": 0.5})[0], 0.5)

    def test_a_default_that_cannot_be_written_stays_a_default(self):
        @dataclass
        class Opaque:
            thing: object = object()

        value = Opaque()
        self.assertIs(call(lambda options=value: options), value)

    def test_namespace(self):
        source = types.SimpleNamespace(lr=1, inner=types.SimpleNamespace(depth=2))
        found = call(lambda params: params, source, {"inner": {"depth": 3}})
        self.assertEqual((found.lr, found.inner.depth, source.inner.depth), (1, 3, 2))

    def test_what_json_cannot_carry_is_kept(self):
        @dataclass
        class WithHandle:
            lr: float = 0.1
            tags: tuple[str, ...] = ("a",)

        found = call(lambda params: params, WithHandle, {"lr": 0.2})
        self.assertEqual(found, WithHandle(0.2, ("a",)))


class Errors(unittest.TestCase):
    def expect(self, pattern: str, kind: str, function: Any, *args: Any, **kwargs: Any):
        with self.assertRaisesRegex(PivotError, pattern) as raised:
            call(function, *args, **kwargs)
        self.assertEqual((raised.exception.kind, raised.exception.stage), (kind, "s"))
        return raised.exception

    def test_unbound_arguments(self):
        def work(data, model, *, seed=0): ...

        error = self.expect("argument `model` of `work` has no value", "bind", work, deps=("a",))
        self.assertEqual(error.argument, "model")
        self.assertIn("only 1 of them", error.hint or "")

        def keyword(*, seed): ...

        self.expect("argument `seed`", "bind", keyword, deps=("a",))
        self.expect("argument `params`", "bind", lambda params: 0, deps=("a",))
        self.expect("argument `variant`", "bind", lambda variant: 0, deps=("a",))
        self.expect("receives the params", "bind", lambda data: 0, Train, deps=("a",))

    def test_keys_that_nothing_receives(self):
        def work(data, learning_rate=0.1): ...

        for declared, overrides in (({"learning_rat": 1}, {}), (None, {"learning_rat": 1})):
            error = self.expect(
                r"no argument `learning_rat`; did you mean `learning_rate`\?", "params",
                work, declared, overrides, deps=("a",),
            )  # fmt: skip
            self.assertEqual(error.details[0].loc, ("learning_rat",))

    def test_fields(self):
        error = self.expect(
            r"`Train` has no field `Epochs`; did you mean `epochs`\?", "params",
            lambda params: 0, Train, {"Epochs": 1, "inner": {"dept": 2}},
        )  # fmt: skip
        self.assertEqual([d.loc for d in error.details], [("Epochs",), ("inner", "dept")])

        @dataclass
        class Required:
            lr: float

        error = self.expect("`lr`: has no value", "params", lambda params: 0, Required)
        self.assertEqual(call(lambda params: params, Required, {"lr": 2}), Required(2))

    def test_params_without_a_json_form(self):
        self.expect("param `a`: has no form in JSON", "params", lambda params: 0, {"a": object()})
        loop: dict[str, Any] = {}
        loop["self"] = loop
        self.expect("nested more than", "params", lambda params: 0, loop)
        self.expect("not Unicode", "params", lambda params: 0, {"a": "\udc80"})
        self.expect("neither a model nor", "params", lambda params: 0, object())

    def test_overrides_must_be_mappings(self):
        with self.assertRaisesRegex(PivotError, "must be a mapping, not 5"):
            overrides_for("s", "s", {"s": 5})
        merged = overrides_for("s@v", "s", {"s": {"a": {"x": 1, "y": 2}}, "s@v": {"a": {"x": 3}}})
        self.assertEqual(merged, {"a": {"x": 3, "y": 2}})


@unittest.skipUnless(sys.version_info >= (3, 14), "annotations are lazy from 3.14 on")
class LazyAnnotations(unittest.TestCase):
    def test_names_for_type_checkers_only(self):
        namespace: dict[str, Any] = {"Train": Train}
        exec(
            compile(
                "def work(x: Missing, p: Train):\n    return x, p", "f", "exec", dont_inherit=True
            ),
            namespace,
        )
        self.assertEqual(call(namespace["work"], Train, deps=("d",)), ("d", Train()))


if __name__ == "__main__":
    unittest.main()
