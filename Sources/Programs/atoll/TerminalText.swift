import Foundation
import Telemetry

/// Where text goes: how wide it may be, and whether it may have more than letters.
struct TerminalText {
    let isTerminal: Bool
    let width: Int
    /// Lines, as what is drawn anew has to fit; elsewhere there is room for any number.
    let height: Int
    let hasColour: Bool

    /// Standard output as it is now: a window may have been made narrower.
    static var current: TerminalText {
        let environment = ProcessInfo.processInfo.environment
        let isTerminal = isatty(1) == 1
        var size = winsize()
        var (width, height) = (0, 0)
        if isTerminal, ioctl(1, UInt(TIOCGWINSZ), &size) == 0 { (width, height) = (Int(size.ws_col), Int(size.ws_row)) }
        if width == 0 { width = Int(environment["COLUMNS"] ?? "") ?? 80 }
        if height == 0 { height = Int(environment["LINES"] ?? "") ?? 24 }
        let isPlain = !(environment["NO_COLOR"] ?? "").isEmpty || environment["TERM"] == "dumb"
        return TerminalText(
            isTerminal: isTerminal, width: min(200, max(20, width)),
            height: isTerminal ? min(500, max(6, height)) : 100_000,
            hasColour: isTerminal && !isPlain)
    }

    /// A part of the window.
    func with(height: Int) -> TerminalText {
        TerminalText(isTerminal: isTerminal, width: width, height: height, hasColour: hasColour)
    }
    func bold(_ text: String) -> String { hasColour ? "\u{1B}[1m\(text)\u{1B}[0m" : text }
    func faint(_ text: String) -> String { hasColour ? "\u{1B}[2m\(text)\u{1B}[0m" : text }

    /// Lines of at most the width, broken between words; a word that is wider is broken itself. What others wrote does nothing but be seen.
    func wrapped(_ text: String, indent: Int = 0) -> [String] {
        var lines: [String] = []
        var line = ""
        var used = 0
        func end() {
            lines.append(line)
            line = String(repeating: " ", count: indent)
            used = indent
        }
        for word in escaped(text).split(separator: " ") {
            var rest = word[...]
            if used > (lines.isEmpty ? 0 : indent) {
                if used + 1 + Self.columns(rest) > width {
                    end()
                } else {
                    line += " "
                    used += 1
                }
            }
            while used + Self.columns(rest) > width {
                var part = rest.prefix(1)
                while part.count < rest.count, used + Self.columns(rest.prefix(part.count + 1)) <= width {
                    part = rest.prefix(part.count + 1)
                }
                line += part
                rest = rest.dropFirst(part.count)
                end()
            }
            line += rest
            used += Self.columns(rest)
        }
        lines.append(line)
        return lines
    }
    /// A head of so many columns before the first line, and as many blanks before the others.
    func hanging(_ head: String, _ text: String) -> [String] {
        let inner = TerminalText(
            isTerminal: isTerminal, width: max(20, width - Self.columns(head)), height: height, hasColour: hasColour)
        let blanks = String(repeating: " ", count: Self.columns(head))
        return inner.wrapped(text).enumerated().map { ($0 == 0 ? head : blanks) + $1 }
    }
    /// As many columns as a terminal gives it: wide letters two (Unicode, UAX #11), marks none.
    static func columns(_ text: some StringProtocol) -> Int {
        text.unicodeScalars.reduce(0) { sum, scalar in
            switch scalar.value {
            case 0x0300...0x036F, 0xFE00...0xFE0F: sum
            case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60,
                0xFFE0...0xFFE6, 0x1F300...0x1FAFF, 0x20000...0x3FFFD:
                sum + 2
            default: sum + 1
            }
        }
    }
}
