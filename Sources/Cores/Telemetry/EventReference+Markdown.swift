extension EventReference {
    /// The whole of docs/EVENTS.md.
    public static var markdown: String {
        var out = introduction
        for section in Section.allCases {
            out += "\n## \(section.title)\n\n\(wrapped(section.introduction))\n\n"
            out += "| kind | level | peer | fields | meaning |\n|---|---|---|---|---|\n"
            let here = entries.filter { $0.name.sample.section == section }
            for entry in here { out += row(entry) }
            for entry in here where isLong(entry) {
                out += "\n" + wrapped("`\(entry.name.kind)`: \(fields(entry)).") + "\n"
            }
        }
        return out + "\nNot every event reaches `report.json`; [REPORT.md](REPORT.md) lists those that do.\n"
    }

    private static let introduction = """
        # Events

        <!-- Written by `make events` from Sources/Cores/Telemetry: change it there. -->

        An event says what happened, in the past tense. Cores emit them (`Event`, in `Sources/Cores/Telemetry`); progress,
        report and transcript are folded from them (`JobView`). No core decides anything by reading one: decisions are entries
        of the job log.

        An event has a *kind* (a word in snake case), a moment, a *peer* (whom it is about; may be absent) and fields. Each
        kind has a *level*: `error` (wrong, and does not mend itself), `warning` (went otherwise than it should, and was dealt
        with), `info` (what an owner wants to know) or `debug` (each step, and what strangers send).

        - As JSON (`atoll node --json`, `atoll peer --json`): one object a line, `at_s`, `kind`, `peer`, then the fields.
        - As text and in a replay's transcript: `seconds kind peer field=value …`. A transcript puts the host's name first.
          Control characters, and marks that turn the direction of writing, are written as `\\u{…}`.
        - As a sentence, on screens and in plain logs, where the kind has one: all that are `info` or above and that a person
          wants to hear of.

        `--log-level LEVEL` (`peer`, `node`, `launch`, `watch`, `collect`), else `ATOLL_LOG_LEVEL`, else `log: LEVEL` in a peer's
        `peer.yaml`, says from which level on events are printed: sentences from `info`, JSON all of them (`debug`) where nothing
        is said. At `debug` a plain log has every event, without a sentence as text. Status, report, dashboard, metrics and
        `atoll why` are folded from all events, whatever is printed. Where standard output is systemd's journal
        (`JOURNAL_STREAM`), each line begins with its priority as sd-daemon(3) has it, so that `journalctl -p warning` finds it.
        No event carries a key, an invite or a token.

        `at_s` is in seconds of the process's own clock, which counts sleep and starts at no meaningful date. In `report.json`
        it counts from the start of the launch; in a replay it is virtual time. *peer* is the name once it is known, else the
        first digits of the key, else an address. Numbers are whole unless marked *real*; a field marked *?* may be absent.
        Lists inside a text are separated by commas.

        """

    /// More than a table's cell takes.
    private static func isLong(_ entry: Entry) -> Bool { entry.name.declaration.requests.count > 5 }

    private static func row(_ entry: Entry) -> String {
        let text = isLong(entry) ? "see below" : fields(entry)
        return
            "| `\(entry.name.kind)` | \(entry.name.level.word) | \(entry.peer ?? "–") | \(text.isEmpty ? "–" : text) | "
            + "\(entry.meaning) |\n"
    }

    private static func fields(_ entry: Entry) -> String {
        entry.name.declaration.requests.map { request in
            var remarks: [String] = []
            switch request.kind {
            case .real: remarks.append("real")
            case .truth: remarks.append("yes or no")
            case .integer, .text: break
            }
            if let note = entry.notes.first(where: { $0.key == request.field })?.value { remarks.append(note) }
            return "`\(request.field)`" + (request.isOptional ? " *?*" : "")
                + (remarks.isEmpty ? "" : " (\(remarks.joined(separator: ": ")))")
        }.joined(separator: ", ")
    }

    /// Broken at blanks after at most 118 characters.
    private static func wrapped(_ text: String) -> String {
        var lines = [""]
        for word in text.split(separator: " ") {
            if !lines[lines.count - 1].isEmpty, lines[lines.count - 1].count + 1 + word.count > 118 { lines.append("") }
            lines[lines.count - 1] += (lines[lines.count - 1].isEmpty ? "" : " ") + word
        }
        return lines.joined(separator: "\n")
    }
}
