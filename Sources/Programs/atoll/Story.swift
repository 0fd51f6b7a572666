import ArgumentParser
import Daemon
import Foundation
import Primitives
import Telemetry

/// A matter of a story, in a few sentences.
struct Paragraph {
    let text: String
    /// What `atoll why` shows the events behind it by.
    let topic: WhyTopic
    /// What goes first where there is no room for all: the highest number. Whether one is of use, what is waited for and what comes next stay longest.
    let rank: Int

    init(_ text: String, _ topic: WhyTopic, rank: Int) {
        (self.text, self.topic, self.rank) = (TerminalText.punctuated(text), topic, rank)
    }

    func changed(_ change: (String) -> String) -> Paragraph { Paragraph(change(text), topic, rank: rank) }
    /// Up to the first full stop before a space.
    var firstSentence: String { text.firstRange(of: ". ").map { String(text[..<$0.lowerBound]) + "." } ?? text }
}

/// What somebody looks at while a process runs: paragraphs of sentences, and how to stop. One for a peer's owner, one for who launched a job.
protocol Story {
    /// One a matter; the first says who or what this is. Empty ones are left out.
    var told: [Paragraph] { get }
    var howToStop: String { get }
    /// One thing a line, between the paragraphs and how to stop: as many as there is room for.
    var rows: [StoryRow] { get }
}
extension Story {
    var rows: [StoryRow] { [] }
    var paragraphs: [String] { told.map(\.text) }

    /// As many lines as it takes at that width, and no more than are drawn anew at that height.
    /// - Parameter stopping: in the place of ``howToStop``, where somebody else's screen shows this.
    func screen(_ terminal: TerminalText, latest: [String] = [], stopping: String? = nil) -> [String] {
        // A blank line above, and the cursor's below; of what is one screen among others, none.
        let room = stopping == "" ? terminal.height : terminal.height - 3
        var below = stopping == "" ? [] : terminal.wrapped(stopping ?? howToStop, indent: 2)
        // In a low window what stops it is said, and nothing beside.
        if below.count > room / 4, below.count > 1 {
            below = terminal.wrapped(Paragraph(stopping ?? howToStop, .job, rank: 0).firstSentence, indent: 2)
        }
        let above = fitting(terminal, max(3, room - below.count - min(rows.count, 3)))
        if !latest.isEmpty {
            let happened = latest.flatMap { terminal.wrapped($0, indent: 2).map(terminal.faint) }
            let left = room - above.count - below.count - rows.count - 1
            if left > 0 { below += [""] + happened.suffix(left) }
        }
        return above + fitting(rows, terminal, max(3, room - above.count - below.count)) + below
    }
    /// Paragraphs in their order; where there is no room for all, those that matter most, or the first sentences of them.
    private func fitting(_ terminal: TerminalText, _ room: Int) -> [String] {
        func lines(_ text: String, _ place: Int) -> [String] {
            let lines = terminal.wrapped(text, indent: 2)
            return place == 0 ? lines.map(terminal.bold) : lines
        }
        var (left, chosen) = (room, [Int: [String]]())
        for (place, one) in told.enumerated().sorted(by: { ($0.element.rank, $0.offset) < ($1.element.rank, $1.offset) }
        ) {
            for text in [one.text, one.firstSentence] {
                let needed = lines(text, place)
                guard needed.count <= left else { continue }
                chosen[place] = needed
                left -= needed.count
                break
            }
        }
        return chosen.sorted { $0.key < $1.key }.flatMap(\.value)
    }
    /// Of more rows than there is room for the first ones, and how many there are besides.
    private func fitting(_ rows: [StoryRow], _ terminal: TerminalText, _ room: Int) -> [String] {
        let widths = StoryRow.widths(rows)
        var lines: [String] = []
        for (place, row) in rows.enumerated() {
            let next = row.lines(terminal, widths)
            // The last row needs no line for those after it.
            if lines.count + next.count > (place == rows.count - 1 ? room : room - 1) {
                let left = rows.count - place
                return lines + ["  and \(left) more: `atoll status`"].flatMap { terminal.wrapped($0, indent: 4) }
            }
            lines += next
        }
        return lines
    }
}

/// A line of a table: columns where the window is wide enough, else one after the other.
struct StoryRow {
    let columns: [String]

    static func widths(_ rows: [StoryRow]) -> [Int] {
        var widths: [Int] = []
        for row in rows {
            for (place, text) in row.columns.enumerated() {
                let width = TerminalText.columns(escaped(text))
                if place == widths.count { widths.append(width) } else { widths[place] = max(widths[place], width) }
            }
        }
        return widths
    }
    func lines(_ terminal: TerminalText, _ widths: [Int]) -> [String] {
        var line = " "
        for (place, text) in columns.enumerated() {
            let clean = escaped(text)
            line += " " + clean
            guard columns[(place + 1)...].contains(where: { !$0.isEmpty }) else { break }
            line += String(repeating: " ", count: 1 + widths[place] - TerminalText.columns(clean))
        }
        if TerminalText.columns(line) <= terminal.width { return [line] }
        let parts = columns.filter { !$0.isEmpty }
        let rest = parts.dropFirst().joined(separator: ", ")
        return terminal.wrapped("  " + (parts.first ?? "") + (rest.isEmpty ? "" : ": " + rest), indent: 4)
    }
}

/// Lines at the foot of a terminal that are drawn anew, below what scrolls.
struct Picture {
    private var drawn = 0
    /// What is shown, which stays while something is put above it.
    private var shown: [String] = []

    /// What happened, and when: eight columns.
    mutating func tell(_ sentence: String, at time: String = clockTime()) {
        let line = "\(time) \(sentence.trimmingCharacters(in: .whitespaces))"
        erase()
        for part in TerminalText.current.wrapped(line, indent: 9) { print(part) }
        show(shown)
    }
    mutating func draw(_ story: any Story) { draw([""] + story.screen(.current)) }
    mutating func draw(_ lines: [String]) {
        erase()
        // What is higher than the window could not be erased again.
        let room = TerminalText.current.height - 1
        shown = lines.count > room ? Array(lines.prefix(room - 2) + lines.suffix(2)) : lines
        show(shown)
    }
    private mutating func show(_ lines: [String]) {
        // The window may have become lower since.
        let room = TerminalText.current.height - 1
        for line in lines.prefix(room) { print(line) }
        drawn = min(lines.count, room)
        fflush(nil)
    }
    /// For good: what is said on standard errors next is not to be erased by it.
    mutating func end() {
        erase()
        fflush(nil)
    }
    mutating func erase() {
        guard drawn > 0 else { return }
        // A key that was pressed, ^C for one, is seen in the line in which the cursor was.
        print("\r\u{1B}[\(drawn)A\u{1B}[0J", terminator: "")
        drawn = 0
    }
}

/// How a screen may look.
struct ScreenOptions: ParsableArguments {
    @Flag(help: "No bold and faint letters on a terminal, as with NO_COLOR in the environment.") var noColor = false

    func validate() { if noColor { setenv("NO_COLOR", "1", 1) } }
}

/// The time of day here, as 21:07:55.
/// - Parameter ahead: seconds from now.
func clockTime(ahead: Double = 0) -> String {
    var (now, parts) = (time(nil) + Int(max(0, min(1e9, ahead))), tm())
    localtime_r(&now, &parts)
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
}

/// GFLOP/s, with two digits at least of what is slow: 0.043, 0.27, 11.6.
func roughly(_ gigaflops: Double) -> String {
    fixed(gigaflops, gigaflops < 0.1 ? 3 : gigaflops < 1 ? 2 : 1)
}
/// 1100000 as "1.1 million".
func roughly(_ count: Int) -> String {
    if count >= 1_000_000_000 { return "\(fixed(Double(count) / 1e9, 1)) billion" }
    return count >= 1_000_000 ? "\(fixed(Double(count) / 1e6, 1)) million" : grouped(count)
}

extension DaemonStatus.TurnedAway {
    /// That nobody lets it in, why, and what to do.
    var sentence: String {
        "Nobody lets it in: \(why)." + (code.map { " `atoll help \($0)` says more." } ?? "")
    }
}

extension DaemonStatus {
    /// Whether it lends a machine: a node carries records of jobs, and computes nothing.
    var computes: Bool { member.map { $0.computes != false } ?? false }
}
