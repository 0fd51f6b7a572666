#!/usr/bin/env python3
"""Manual pages out of what the program says of itself: reads `atoll --experimental-dump-help` on stdin, writes one page for each command into
a folder. Usage: manual.py FOLDER VERSION DATE < help.json"""
import json
import os
import sys

folder, version, date = sys.argv[1:4]


def text(words):
    """As roff takes it: no line begins with a control character, hyphens and backslashes are themselves."""
    out = words.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return "\n".join("\\&" + line if line[:1] in ".'" else line for line in out.split("\n"))


def names(argument):
    return [("-" if n["kind"] == "short" else "--") + n["name"] for n in argument.get("names", [])]


def shown(command, kinds):
    return [a for a in command.get("arguments", []) if a["kind"] in kinds and a.get("shouldDisplay", True)]


def value(argument):
    return "\\fI" + text(argument["valueName"]) + "\\fR"


def synopsis(command, path):
    parts = ["\\fB" + text(" ".join(path)) + "\\fR"]
    if command.get("subcommands") and not shown(command, ("positional",)):
        parts.append("\\fICOMMAND\\fR")
    for a in shown(command, ("option", "flag")):
        word = "\\fB" + text(names(a)[-1]) + "\\fR" + (" " + value(a) if a["kind"] == "option" else "")
        parts.append(word if not a["isOptional"] else "[" + word + "]")
    for a in shown(command, ("positional",)):
        word = value(a) + (" ..." if a["isRepeating"] else "")
        parts.append("[" + word + "]" if a["isOptional"] else word)
    return " ".join(parts)


def argument_text(argument):
    says = [argument.get("abstract", ""), argument.get("discussion", "")]
    if argument.get("allValues"):
        says.append("One of: " + ", ".join(argument["allValues"]) + ".")
    if argument.get("defaultValue"):
        says.append("Default: " + argument["defaultValue"] + ".")
    return " ".join(s for s in says if s)


def page(command, path):
    name = "-".join(path)
    lines = [
        '.\\" Generated from the program\'s own help.',
        '.TH "%s" 1 "%s" "atoll %s" "Atoll"' % (name.upper(), date, version),
        ".SH NAME",
        "%s \\- %s" % (text(name), text(command["abstract"][:1].lower() + command["abstract"][1:].rstrip("."))),
        ".SH SYNOPSIS",
        synopsis(command, path),
    ]
    described = command.get("discussion") or command["abstract"]
    lines += [".SH DESCRIPTION", text(described)]
    for title, kinds in (("ARGUMENTS", ("positional",)), ("OPTIONS", ("option", "flag"))):
        arguments = [a for a in shown(command, kinds) if names(a)[-1:] != ["--help"]]
        if not arguments:
            continue
        lines.append(".SH " + title)
        for a in arguments:
            head = value(a) if a["kind"] == "positional" else ", ".join("\\fB" + text(n) + "\\fR" for n in names(a))
            if a["kind"] == "option":
                head += " " + value(a)
            lines += [".TP", head, text(argument_text(a)) or "\\&"]
    below = [c for c in command.get("subcommands", []) if c.get("shouldDisplay", True) and c["commandName"] != "help"]
    if below:
        lines.append(".SH COMMANDS")
        for c in below:
            lines += [".TP", "\\fB%s\\fR(1)" % text("-".join(path + [c["commandName"]])), text(c["abstract"])]
    lines += [
        ".SH EXIT STATUS",
        "0 done, 1 failed, 2 usage or bad input, 130 interrupted.",
        ".SH FILES",
        ".TP", "\\fI~/.atoll\\fR", "keys, logs and checkpoints of this user\\(aqs daemons; \\fBATOLL_HOME\\fR names another place.",
        ".TP", "\\fI/usr/share/doc/atoll\\fR", "the documents that say more.",
    ]
    if len(path) > 1:
        lines += [".SH SEE ALSO", "\\fB%s\\fR(1)" % text("-".join(path[:-1]))]
    with open(os.path.join(folder, name + ".1"), "w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")
    for c in below:
        page(c, path + [c["commandName"]])


os.makedirs(folder, exist_ok=True)
page(json.load(sys.stdin)["command"], ["atoll"])
