"""What a piece of code names: the static edges of the graph.

The walk knows scopes, so a local name never counts as a global; what a name *means* is decided
later with the live objects. For each use it keeps the chain of attributes and what happens to
the result (called, passed, stored), since a module that is passed on may be used in any way.
"""

from __future__ import annotations

import _ast as ast  # the classes alone: `ast` itself imports much that is not needed here

TYPE_CHECKING = False  # without `typing`, whose import takes long; see `_edited`
if TYPE_CHECKING:
    from typing import Any

    from ._imported import Imported

__all__ = ["READERS", "Binding", "Names", "Scope", "Use", "names_of", "never_true"]

# How a local name is bound: by an import, to an expression, to the items of one, or otherwise.
if TYPE_CHECKING:
    Binding = tuple[str, Any]
    Context = tuple[str, Any] | None

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_TEXT_ATTRIBUTES = frozenset(
    {
        "__doc__",
        "__annotations__",
        "__annotate__",
        "get_type_hints",
        "get_annotations",
        "model_json_schema",
    }
)
# As bare names only: as attributes they may be anybody's.
_TEXT_NAMES = _TEXT_ATTRIBUTES | {"inspect", "signature", "getsource", "getdoc", "help"}


# What makes more than usual count for a stage: attributes, and constants that may name one.
READERS = {
    "__module__": "full",
    "to_pickle": "full",
    "__reduce__": "full",
    "__dict__": "order",
    "co_firstlineno": "lines",
    "co_positions": "lines",
    "co_lines": "lines",
    "f_lineno": "lines",
    "tb_lineno": "lines",
    "getframeinfo": "lines",
}


# Fields that hold no names: operators, contexts, plain values.
_LEAF_FIELDS = frozenset({"ctx", "op", "ops", "type_comment", "kind", "conversion", "id", "name"})
_CHILD_FIELDS: dict[type, tuple[str, ...]] = {}


class Scope:
    """One function, class, comprehension or module scope."""

    __slots__ = ("bindings", "kind", "outer", "parent")

    def __init__(self, kind: str, parent: Scope | None) -> None:
        self.kind = kind
        self.parent = parent
        self.bindings: dict[str, list[Binding]] = {}
        self.outer: dict[str, str] = {}  # name -> "global" or "nonlocal"

    def bind(self, name: str, binding: Binding) -> None:
        """Note one way in which the name is bound here."""
        self.bindings.setdefault(name, []).append(binding)


class Use:
    """One appearance of a name with the attributes read from it."""

    __slots__ = ("attributes", "context", "line", "root", "scope", "store")

    def __init__(
        self,
        root: str | ast.expr,
        attributes: tuple[str, ...],
        scope: Scope,
        line: int,
        context: Context,
        store: bool,
    ) -> None:
        self.root = root
        self.attributes = attributes
        self.scope = scope
        self.line = line
        self.context: tuple[str, Any] = context or ("", None)
        self.store = store


class Names:
    """All that one piece of code names."""

    __slots__ = (
        "attributes",
        "chains",
        "imports",
        "local",
        "outer",
        "parents",
        "reads",
        "reads_texts",
        "scopes",
        "strings",
    )

    def __init__(self) -> None:
        self.outer: list[Use] = []
        """Names bound outside of the piece: globals, builtins, free variables."""
        self.local: list[tuple[Use, list[Binding]]] = []
        """Local names that an import or a single assignment binds."""
        self.chains: list[Use] = []
        """Attributes of a call's or a subscript's result."""
        self.imports: list[tuple[Imported, str]] = []
        """Imports in the body, with the name that each binds."""
        self.strings: list[tuple[str, int]] = []
        self.attributes: dict[str, int] = {}
        """Every attribute name that is read, with a line."""
        self.reads: set[str] = set()
        """Fields of `Mode` that the code needs."""
        self.reads_texts = False
        """Whether docstrings, annotations or sources may be read."""
        self.parents: dict[int, tuple[str, Any]] = {}
        """Id of a call or attribute node -> what happens to its value."""
        self.scopes: dict[int, Scope] = {}


def names_of(nodes: list[ast.AST], *, module_level: bool = False, texts: bool = False) -> Names:
    """The names in a function's definition (one node) or in statements of a module's top level."""
    return _Walk(module_level, texts).run(nodes)


def never_true(test: ast.expr) -> bool:
    """Conditions that do not hold in a pipeline: the main guard, type checking, constant false."""
    if isinstance(test, ast.Constant):
        return not test.value
    if isinstance(test, ast.Name):
        return test.id == "TYPE_CHECKING"
    if isinstance(test, ast.Attribute):
        return test.attr == "TYPE_CHECKING"
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        sides = [test.left, test.comparators[0]]
        names = [side.id for side in sides if isinstance(side, ast.Name)]
        texts = [side.value for side in sides if isinstance(side, ast.Constant)]
        return names == ["__name__"] and texts == ["__main__"]
    return False


class _Walk:
    def __init__(self, module_level: bool, texts: bool) -> None:
        self.names = Names()
        self.module_level = module_level
        self.texts = texts
        self.root = Scope("module" if module_level else "function", None)
        self.uses: list[Use] = []
        self.stack: list[tuple[Any, Scope, Context]] = []

    def run(self, nodes: list[ast.AST]) -> Names:
        if self.module_level:
            for node in reversed(nodes):
                self.stack.append((node, self.root, None))
        else:
            (node,) = nodes
            self._function_inside(node, self.root)
            if self.texts:
                self._annotations(node, self.root)
        while self.stack:
            self._visit(*self.stack.pop())
        for use in self.uses:
            self._place(use)
        return self.names

    def _visit(self, node: Any, scope: Scope, context: Context) -> None:
        kind = type(node)
        if kind is ast.Name:
            if isinstance(node.ctx, ast.Load):
                self.uses.append(Use(node.id, (), scope, node.lineno, context, False))
            else:
                self._bind(scope, node.id, ("other", None))
        elif kind is ast.Constant:
            if type(node.value) is str:
                self.names.strings.append((node.value, node.lineno))
                if node.value in _TEXT_ATTRIBUTES:
                    self.names.reads_texts = True
                if node.value in READERS:
                    self.names.reads.add(READERS[node.value])
        elif kind is ast.Attribute:
            self._attribute(node, scope, context)
        elif kind is ast.Call:
            self.names.scopes[id(node)] = scope
            if context is not None:
                self.names.parents[id(node)] = context
            self.stack.append((node.func, scope, ("call", node)))
            for arg in node.args:
                self.stack.append((arg, scope, ("argument", node)))
            for keyword in node.keywords:
                self.stack.append((keyword.value, scope, ("argument", node)))
        elif kind is ast.Subscript:
            self.stack.append((node.value, scope, ("subscript", node)))
            self.stack.append((node.slice, scope, None))
        elif kind is ast.Assign:
            self._assign(node, scope)
        elif kind is ast.AnnAssign:
            if scope.kind == "class" or (self.module_level and scope is self.root) or self.texts:
                self.stack.append((node.annotation, scope, None))
            if isinstance(node.target, ast.Name):
                binding = ("other", None) if node.value is None else ("value", node.value)
                self._bind(scope, node.target.id, binding)
            else:
                self.stack.append((node.target, scope, None))
            if node.value is not None:
                self.stack.append((node.value, scope, ("stored", node.target)))
        elif kind is ast.AugAssign:
            if isinstance(node.target, ast.Name):
                self._bind(scope, node.target.id, ("other", None))
                self.uses.append(Use(node.target.id, (), scope, node.lineno, None, False))
            else:
                self.stack.append((node.target, scope, None))
            self.stack.append((node.value, scope, ("stored", node.target)))
        elif kind is ast.NamedExpr:
            self._bind(_beyond_comprehensions(scope), node.target.id, ("value", node.value))
            self.stack.append((node.value, scope, ("stored", node.target)))
        elif kind in (ast.For, ast.AsyncFor):
            if isinstance(node.target, ast.Name):
                self._bind(scope, node.target.id, ("item", node.iter))
            else:
                self.stack.append((node.target, scope, None))
            self.stack.append((node.iter, scope, ("iterated", None)))
            self._push(node.body, scope)
            self._push(node.orelse, scope)
        elif kind is ast.Import or kind is ast.ImportFrom:
            self._import(node, scope)
        elif isinstance(node, _FUNCTIONS):
            self._bind(scope, node.name, ("other", None))
            for decorator in node.decorator_list:
                self.stack.append((decorator, scope, None))
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.stack.append((default, scope, ("stored", None)))
            if self.texts or node.decorator_list:
                self._annotations(node, scope)
            self._function_inside(node, Scope("function", scope))
        elif kind is ast.Lambda:
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.stack.append((default, scope, ("stored", None)))
            self._function_inside(node, Scope("function", scope))
        elif kind is ast.ClassDef:
            self._bind(scope, node.name, ("other", None))
            for child in (*node.decorator_list, *node.bases, *node.keywords):
                self.stack.append((child, scope, None))
            inner = Scope("class", scope)
            self._push(node.body, inner)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node, scope)
        elif kind is ast.Global or kind is ast.Nonlocal:
            word = "global" if kind is ast.Global else "nonlocal"
            for name in node.names:
                scope.outer[name] = word
        elif kind is ast.If and never_true(node.test):
            self._push(node.orelse, scope)
        elif kind is ast.Compare:
            self.stack.append((node.left, scope, None))
            for comparator in node.comparators:
                self.stack.append((comparator, scope, ("compared", node)))
        elif kind is ast.Return:
            if node.value is not None:
                self.stack.append((node.value, scope, ("returned", None)))
        else:
            self._generic(node, scope)

    def _generic(self, node: ast.AST, scope: Scope) -> None:
        for field in ("name", "rest"):  # ExceptHandler, MatchAs, MatchStar, MatchMapping
            bound = getattr(node, field, None)
            if isinstance(bound, str):
                self._bind(scope, bound, ("other", None))
        kind = type(node)
        fields = _CHILD_FIELDS.get(kind)
        if fields is None:
            fields = _CHILD_FIELDS[kind] = tuple(f for f in node._fields if f not in _LEAF_FIELDS)
        stack = self.stack
        for field in fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                for child in value:
                    if isinstance(child, ast.AST):
                        stack.append((child, scope, None))
            elif isinstance(value, ast.AST):
                stack.append((value, scope, None))

    def _push(self, nodes: list[ast.stmt], scope: Scope) -> None:
        for node in nodes:
            self.stack.append((node, scope, None))

    def _function_inside(self, node: Any, scope: Scope) -> None:
        args = node.args
        for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
            if arg is not None:
                scope.bind(arg.arg, ("parameter", None))
        if isinstance(node.body, list):
            self._push(node.body, scope)
        else:
            self.stack.append((node.body, scope, ("returned", None)))

    def _annotations(self, node: Any, scope: Scope) -> None:
        args = getattr(node, "args", None)
        if args is None:
            return
        for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
            if arg is not None and arg.annotation is not None:
                self.stack.append((arg.annotation, scope, None))
        if getattr(node, "returns", None) is not None:
            self.stack.append((node.returns, scope, None))

    def _comprehension(self, node: Any, scope: Scope) -> None:
        inner = Scope("comprehension", scope)
        for number, generator in enumerate(node.generators):
            where = scope if number == 0 else inner
            if isinstance(generator.target, ast.Name):
                inner.bind(generator.target.id, ("item", generator.iter))
            else:
                self.stack.append((generator.target, inner, None))
            self.stack.append((generator.iter, where, ("iterated", None)))
            for test in generator.ifs:
                self.stack.append((test, inner, None))
        for field in ("elt", "key", "value"):
            child = getattr(node, field, None)
            if child is not None:
                self.stack.append((child, inner, None))

    def _assign(self, node: ast.Assign, scope: Scope) -> None:
        targets = node.targets
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            self._bind(scope, targets[0].id, ("value", node.value))
            self.stack.append((node.value, scope, ("assigned", targets[0].id)))
            return
        for target in targets:
            self.stack.append((target, scope, None))
        self.stack.append((node.value, scope, ("stored", targets[0])))

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        from ._imported import Imported  # only here, as a body without imports needs it not

        for alias in node.names:
            if isinstance(node, ast.Import):
                entry = Imported(alias.name, 0, None, node.lineno)
                bound = alias.asname or alias.name.partition(".")[0]
                # `import a.b` binds `a`; `import a.b as c` binds the inner module.
                what = alias.name if alias.asname else bound
                binding = ("module", what)
            else:
                entry = Imported(node.module or "", node.level, alias.name, node.lineno)
                bound = alias.asname or alias.name
                binding = ("from", entry)
            self.names.imports.append((entry, bound))
            if alias.name != "*":
                self._bind(scope, bound, binding)

    def _attribute(self, node: ast.Attribute, scope: Scope, context: Context) -> None:
        store = not isinstance(node.ctx, ast.Load)
        if context is not None:
            self.names.parents[id(node)] = context
        attributes = [node.attr]
        base: ast.expr = node.value
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        attributes.reverse()
        for attribute in attributes:
            self.names.attributes.setdefault(attribute, node.lineno)
            if attribute in _TEXT_ATTRIBUTES:
                self.names.reads_texts = True
            if attribute in READERS:
                self.names.reads.add(READERS[attribute])
        if isinstance(base, ast.Name):
            self.uses.append(Use(base.id, tuple(attributes), scope, node.lineno, context, store))
            return
        if isinstance(base, (ast.Call, ast.Subscript)):
            self.names.chains.append(
                Use(base, tuple(attributes), scope, node.lineno, context, store)
            )
            context = ("chained", node)
        else:
            context = None
        self.stack.append((base, scope, context))

    def _bind(self, scope: Scope, name: str, binding: Binding) -> None:
        scope.bind(name, binding)

    def _place(self, use: Use) -> None:
        """Decide whether the name of a use is bound inside of the piece or outside."""
        name = use.root
        if name in _TEXT_NAMES:
            self.names.reads_texts = True
        scope: Scope | None = use.scope
        while scope is not None:
            if scope.kind == "class" and scope is not use.scope:
                scope = scope.parent
                continue
            word = scope.outer.get(name)  # type: ignore[arg-type]
            if word == "global":
                break
            if word is None and name in scope.bindings:
                if scope.kind == "module":
                    break
                bindings = scope.bindings[name]  # type: ignore[index]
                if scope.kind == "class" and scope is use.scope:
                    # A class body may read the outer name before it binds its own.
                    self.names.outer.append(use)
                if any(kind in ("module", "from", "value", "item") for kind, _ in bindings):
                    self.names.local.append((use, bindings))
                return
            scope = scope.parent
        self.names.outer.append(use)


def _beyond_comprehensions(scope: Scope) -> Scope:
    while scope.kind == "comprehension" and scope.parent is not None:
        scope = scope.parent
    return scope
