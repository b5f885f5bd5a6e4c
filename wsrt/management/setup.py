"""The plan by which ``manage.py wsrt_init`` sets up a project: the changes of files, and what is left to do."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import Resolver404, resolve

from ..protocol.namespaces import namespaces
from ..schema.routes import client_name, dotted
from . import starter
from .source import CannotEdit, SourceFile, is_call, names_in, with_elements


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """
    A change of one file.

    Attributes:
        path: The file.
        before: Its content, None for a new file.
        after: Its new content.
        is_shown: Whether the difference is worth showing. The files that ``startapp`` writes are only named.
    """

    path: Path
    before: bytes | None
    after: bytes
    is_shown: bool = True


@dataclasses.dataclass(slots=True)
class Plan:
    """
    What to do.

    Attributes:
        root: The folder from which the project's modules are imported.
        changes: The changes of files.
        left: What the user has to do.
        page: The URL path of the app's page, such as ``/chat/``. None if the app gets no page.
    """

    root: Path
    changes: list[Change] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)
    page: str | None = None

    def name_of(self, path: Path) -> str:
        """Return the name under which a file is shown."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def owns(self, path: Path) -> bool:
        """Return whether a file belongs to the project, and not to a package that it uses."""
        return path.is_relative_to(self.root) and not {"site-packages", "dist-packages"} & set(path.parts)

    def write(self) -> None:
        """
        Make the changes.

        Raises:
            CommandError: A file can't be written. The earlier ones have been.
        """
        for change in self.changes:
            try:
                change.path.parent.mkdir(parents=True, exist_ok=True)
                change.path.write_bytes(change.after)
            except OSError as error:
                raise CommandError(f"{change.path} cannot be written: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class App:
    """An app, which needn't be installed. The names of its page, namespace, paths and consumer come from its label."""

    package: str
    label: str
    folder: Path

    @property
    def template(self) -> str:
        return f"{self.label}.html"

    @property
    def route(self) -> str:
        """The route of its page, as a line of code."""
        return f'path("{self.label}/", TemplateView.as_view(template_name="{self.template}"))'


def make_plan(name: str) -> Plan:
    """
    Return the plan for an app, which is created if there is none.

    Args:
        name: The label or the dotted path of an app.

    Raises:
        CommandError: There is no app of this name, and none can be created.
    """
    settings_module = str(settings.SETTINGS_MODULE)
    plan = Plan(_root(settings_module))
    app = _find_app(name, plan)
    has_files = _add_files(plan, app)
    first, last = _missing_apps(app)
    if first or last:
        module = _defining_module(settings_module, "INSTALLED_APPS") or settings_module
        advice = f"INSTALLED_APPS = {_with_apps(_in_double_quotes, first, last)}"
        _edit(plan, module, lambda file: _install(file, first, last), advice)
    if _asgi_application() is None:
        module = _defining_module(settings_module, "WSGI_APPLICATION") or settings_module
        _edit(plan, module, _set_asgi, f'ASGI_APPLICATION = "{_asgi_module()}.application"')
    _add_asgi(plan, settings_module)
    if has_files:
        plan.page = f"/{app.label}/"
        _add_page(plan, app)
    _examine(plan)
    return plan


# Files


def _file_of(module: str) -> Path:
    """
    Return the file of a module, which isn't imported.

    Raises:
        CannotEdit: There is none.
    """
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin).resolve()
    raise CannotEdit("there is no such file")


def _root(module: str) -> Path:
    """Return the folder from which a module is imported."""
    path = _file_of(module)
    return path.parents[module.count(".") + (path.name == "__init__.py")]


def _edit(plan: Plan, module: str, edit: Callable[[SourceFile], None], advice: str) -> None:
    """Plan an edit of a module. If it can't be edited, leave it to the user, with the code to write."""
    path: Path | None = None
    try:
        path = _file_of(module)
        if not plan.owns(path):
            raise CannotEdit("it isn't a file of the project")
        before = path.read_bytes()
        earlier = next((change for change in plan.changes if change.path == path), None)
        file = SourceFile(before if earlier is None else earlier.after)
        edit(file)
        after = file.result()
    except (CannotEdit, OSError) as error:
        name = module if path is None else plan.name_of(path)
        plan.left.append(f"{name} isn't changed: {error}. Write there: {advice}")
        return
    if earlier is not None:
        plan.changes.remove(earlier)
    if after != before:
        plan.changes.append(Change(path, before, after))


# The app


def _find_app(name: str, plan: Plan) -> App:
    for config in apps.get_app_configs():
        if name in (config.label, config.name):
            folder = Path(config.path).resolve()
            if not plan.owns(folder):
                raise CommandError(
                    f"{config.name} isn't an app of this project, so it gets no files: name another app."
                )
            return App(config.name, config.label, folder)
    folder = plan.root.joinpath(*name.split("."))
    if (folder / "__init__.py").exists():
        return App(name, name.rpartition(".")[2], folder)
    if "." in name or folder.exists():
        raise CommandError(f"There is no app {name!r}: create {folder / '__init__.py'}, then run this again.")
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / name
        made.mkdir()
        call_command("startapp", name, str(made), verbosity=0)
        for path in sorted(made.rglob("*.py")):
            plan.changes.append(Change(folder / path.relative_to(made), None, path.read_bytes(), is_shown=False))
    return App(name, name, folder)


def _add_files(plan: Plan, app: App) -> bool:
    """Plan the files of the app. Return False if the app has other files of the same names, which are left alone."""
    client = starter.client_of(app.label)
    own = f"{app.package}.consumers.{client}Consumer"
    others = {consumer for space in namespaces.values() for consumer in space.consumers if dotted(consumer) != own}
    texts = starter.files(app.package, app.label, is_unique=client not in map(client_name, others))
    wanted = {app.folder / name: text.encode() for name, text in texts.items()}
    foreign = [path for path, text in wanted.items() if path.exists() and path.read_bytes() != text]
    template: Any = None
    with contextlib.suppress(TemplateDoesNotExist):
        template = get_template(app.template)
    if template is not None and Path(template.origin.name).resolve() not in wanted:
        foreign.append(Path(template.origin.name))
    if foreign:
        names = ", ".join(map(plan.name_of, foreign))
        plan.left.append(
            f"{app.package} has files of its own, so it gets no chat: {names}. Write its events, its consumer and its "
            "page there, or name another app."
        )
        return False
    plan.changes += [Change(path, None, text) for path, text in wanted.items() if not path.exists()]
    return True


# The settings


def _defining_module(module: str, name: str) -> str | None:
    """Return the module that sets a setting: a settings module, or one from which it imports everything."""
    try:
        path = _file_of(module)
        file = SourceFile(path.read_bytes())
    except (CannotEdit, OSError):
        return None
    if any(name not in names_in(value) for _, value in file.assignments(name)):
        return module
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = (_defining_module(importlib.util.resolve_name(each, package), name) for each in file.star_imports())
    return next(filter(None, found), None)


def _missing_apps(app: App) -> tuple[list[str], list[str]]:
    """Return the apps that are missing at the beginning and at the end of INSTALLED_APPS."""
    has_daphne = importlib.util.find_spec("daphne") is not None
    first = ["daphne"] if has_daphne and not apps.is_installed("daphne") else []
    return first, [name for name in ("wsrt", app.package) if not apps.is_installed(name)]


def _with_apps(quoted: Callable[[str], str], first: list[str], last: list[str]) -> str:
    return f"[{', '.join([*map(quoted, first), '*INSTALLED_APPS', *map(quoted, last)])}]"


def _in_double_quotes(text: str) -> str:
    return f'"{text}"'


def _install(file: SourceFile, first: list[str], last: list[str]) -> None:
    """Add apps to INSTALLED_APPS."""
    assignments = [pair for pair in file.assignments("INSTALLED_APPS") if "INSTALLED_APPS" not in names_in(pair[1])]
    if not assignments:
        raise CannotEdit("it doesn't set INSTALLED_APPS")
    statement, value = assignments[-1]
    items = with_elements(value)
    if items is None:
        file.insert_line(statement, f"INSTALLED_APPS = {_with_apps(file.quoted, first, last)}")
        return
    for name in first:
        file.insert_first(items, file.quoted(name))
    file.insert_last(items, *map(file.quoted, last))


def _asgi_application() -> str | None:
    path: str | None = getattr(settings, "ASGI_APPLICATION", None)
    return path


def _set_asgi(file: SourceFile) -> None:
    """Set ASGI_APPLICATION, below WSGI_APPLICATION."""
    beside = file.assignments("WSGI_APPLICATION")
    text = f"ASGI_APPLICATION = {file.quoted(f'{_asgi_module()}.application')}"
    file.insert_line(beside[-1][0] if beside else None, text)


# The ASGI application

ASGI = """

    from wsrt.asgi import with_runtime

    application = with_runtime(get_asgi_application())

or, with routers of your own:

    from wsrt.routing import consumer_urlpatterns

    sockets = URLRouter([..., *consumer_urlpatterns()])
    application = with_runtime(ProtocolTypeRouter({"http": ..., "websocket": AuthMiddlewareStack(sockets)}))
"""


def _asgi_module() -> str:
    """Return the module of the ASGI application: that of the setting, or the one beside the WSGI application."""
    path = _asgi_application()
    if path is not None:
        return path.rpartition(".")[0]
    wsgi = getattr(settings, "WSGI_APPLICATION", None)
    beside = str(wsgi).rpartition(".")[0] if wsgi else str(settings.ROOT_URLCONF)
    package = beside.rpartition(".")[0]
    return f"{package}.asgi" if package else "asgi"


def _add_asgi(plan: Plan, settings_module: str) -> None:
    module = _asgi_module()
    path = plan.root.joinpath(*module.split(".")).with_suffix(".py")
    if not path.exists() and path.parent.is_dir() and importlib.util.find_spec(module) is None:
        plan.changes.append(Change(path, None, starter.asgi(settings_module).encode()))
        return
    name = (_asgi_application() or ".application").rpartition(".")[2]
    _edit(plan, module, lambda file: _wrap(file, name), ASGI)


def _wrap(file: SourceFile, name: str) -> None:
    """Wrap the application in with_runtime(), and add the routes of consumers to its router if it has one."""
    assignments = file.assignments(name)
    if not assignments:
        raise CannotEdit(f"it doesn't set {name}")
    statement, value = assignments[-1]
    is_wrapped = isinstance(value, ast.Call) and is_call(value, "with_runtime") and len(value.args) == 1
    application = value.args[0] if isinstance(value, ast.Call) and is_wrapped else value
    imports: list[tuple[str, str]] = []
    if not is_wrapped:
        file.insert(file.start(value), "with_runtime(")
        file.insert(file.end(value), ")")
        imports.append(("wsrt.asgi", "with_runtime"))
    if is_call(application, "ProtocolTypeRouter"):
        if not any(file.calls("consumer_urlpatterns")):
            _add_to_router(file)
            imports.append(("wsrt.routing", "consumer_urlpatterns"))
    elif not is_call(application, "get_asgi_application"):
        raise CannotEdit(f"{name} is neither get_asgi_application() nor a ProtocolTypeRouter")
    missing = [f"from {module} import {what}" for module, what in imports if file.import_of(module, what) is None]
    if not missing:
        return
    beside = file.import_of("django.core.asgi", "get_asgi_application")
    if beside is not None and is_call(application, "get_asgi_application"):
        file.insert_line(beside, "\n".join(["", *missing]))
        return
    earlier = [each for each in file.imports() if each.lineno < statement.lineno]
    if not earlier:
        raise CannotEdit("it has no imports at its beginning")
    file.insert_line(earlier[-1], "\n".join(missing))


def _add_to_router(file: SourceFile) -> None:
    routers = [call for call in file.calls("URLRouter") if len(call.args) == 1 and not call.keywords]
    if not routers:
        raise CannotEdit("it has no call URLRouter([...]) to which the consumers' routes could be added")
    if len(routers) > 1:
        raise CannotEdit(
            f"it calls URLRouter {len(routers)} times, and only you know which call gets the consumers' routes"
        )
    set_up = [*file.calls("get_asgi_application"), *file.calls("setup")]
    if not any(call.lineno < routers[0].lineno for call in set_up):
        raise CannotEdit("it must call get_asgi_application() before URLRouter")
    [routes] = routers[0].args
    items = with_elements(routes)
    if items is not None:
        file.insert_last(items, "*consumer_urlpatterns()")
    else:
        file.insert(file.start(routes), "[*")
        file.insert(file.end(routes), ", *consumer_urlpatterns()]")


# The page


def _add_page(plan: Plan, app: App) -> None:
    urls = str(settings.ROOT_URLCONF)
    try:
        match = resolve(f"/{app.label}/")
    except Resolver404:
        is_first = False
    except Exception as error:
        # Anything can happen at the import of a module of the project.
        plan.left.append(f"{urls} isn't changed: it can't be imported: {error}. Write there: {app.route}")
        return
    else:
        if getattr(match.func, "view_initkwargs", {}).get("template_name") == app.template:
            return
        if match.route.startswith(f"{app.label}/"):
            plan.left.append(f"Another view is at /{app.label}/. Add the page at another path: {app.route}")
            return
        is_first = True  # a pattern that matches everything must not come before the page
    _edit(plan, urls, lambda file: _route(file, app, is_first), app.route)


def _route(file: SourceFile, app: App, is_first: bool) -> None:
    """Add the route of the page."""
    assignments = file.assignments("urlpatterns")
    if not assignments:
        raise CannotEdit("it doesn't set urlpatterns")
    statement, value = assignments[-1]
    route, template = file.quoted(f"{app.label}/"), file.quoted(app.template)
    text = f"path({route}, TemplateView.as_view(template_name={template}))"
    items = with_elements(value)
    if items is None:
        file.insert_line(None, f"urlpatterns = [{text}, *urlpatterns]")
    elif is_first:
        file.insert_first(items, text)
    else:
        file.insert_last(items, text)
    names = [("django.urls", "path"), ("django.views.generic", "TemplateView")]
    missing = [f"from {module} import {name}" for module, name in names if file.import_of(module, name) is None]
    earlier = [each for each in file.imports() if each.lineno < statement.lineno]
    if missing and not earlier:
        raise CannotEdit("it has no imports at its beginning")
    if missing:
        file.insert_line(earlier[-1], "\n".join(missing))


# What the project needs apart from these files


def _examine(plan: Plan) -> None:
    if importlib.util.find_spec("daphne") is None:
        plan.left.append('Install a server for runserver: pip install "wsrt[daphne]". Then run this again.')
    if not apps.is_installed("django.contrib.staticfiles"):
        plan.left.append('Add "django.contrib.staticfiles" to INSTALLED_APPS: it serves the client of the page.')
    engines: list[dict[str, Any]] = list(settings.TEMPLATES)
    if not any(engine.get("APP_DIRS") or "app_directories" in str(engine.get("OPTIONS")) for engine in engines):
        plan.left.append("Set APP_DIRS to True in TEMPLATES: otherwise the page isn't found.")
    needed = "django.template.context_processors.request"
    if not any(needed in engine.get("OPTIONS", {}).get("context_processors", ()) for engine in engines):
        plan.left.append(f'Add "{needed}" to the context processors in TEMPLATES: the page needs the request.')
