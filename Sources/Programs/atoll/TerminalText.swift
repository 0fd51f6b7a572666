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
    static var current: TerminalText { of(STDOUT_FILENO) }
    static func of(_ descriptor: Int32) -> TerminalText {
        let environment = ProcessInfo.processInfo.environment
        let isTerminal = isatty(descriptor) == 1
        var size = winsize()
        var (width, height) = (0, 0)
        if isTerminal, ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 {
            (width, height) = (Int(size.ws_col), Int(size.ws_row))
        }
        if width == 0 { width = Int(environment["COLUMNS"] ?? "") ?? 80 }
        if height == 0 { height = Int(environment["LINES"] ?? "") ?? 24 }
        let isPlain = !(environment["NO_COLOR"] ?? "").isEmpty || environment["TERM"] == "dumb"
        return TerminalText(
            isTerminal: isTerminal, width: min(200, max(20, width)),
            height: isTerminal ? min(500, max(6, height)) : 100_000,
            hasColour: isTerminal && !isPlain)
    }

    /// A text of several lines: those that are too wide are broken between words. Elsewhere than at a terminal all stay as they are.
    func fitted(_ text: String) -> String {
        guard isTerminal else { return text }
        return text.split(separator: "\n", omittingEmptySubsequences: false).flatMap { line in
            Self.columns(line) <= width
                ? [String(line)] : wrapped(String(line), indent: line.prefix { $0 == " " }.count + 2)
        }.joined(separator: "\n")
    }
    /// A part of the window.
    func with(height: Int) -> TerminalText {
        TerminalText(isTerminal: isTerminal, width: width, height: height, hasColour: hasColour)
    }
    func bold(_ text: String) -> String { hasColour ? "\u{1B}[1m\(text)\u{1B}[0m" : text }
    func faint(_ text: String) -> String { hasColour ? "\u{1B}[2m\(text)\u{1B}[0m" : text }

    /// Lines of at most the width, broken between words; a word that is wider is broken itself. Blanks before the first word stay, and a number in
    /// groups of three digits is one word. What others wrote does nothing but be seen.
    func wrapped(_ text: String, indent: Int = 0) -> [String] {
        var lines: [String] = []
        let clean = escaped(text)
        let first = clean.prefix { $0 == " " }.count
        var line = String(repeating: " ", count: min(first, width / 2))
        var used = line.count
        let start = used
        func end() {
            lines.append(line)
            line = String(repeating: " ", count: indent)
            used = indent
        }
        for word in Self.words(clean) {
            var rest = word[...]
            if used > (lines.isEmpty ? start : indent) {
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
    /// Between blanks: “12”, “345 678”.
    private static func words(_ text: String) -> [String] {
        var words: [String] = []
        for part in text.split(separator: " ") {
            let digits = part.prefix { $0.isNumber && $0.isASCII }
            let isGroup = digits.count == 3 && !part.dropFirst(3).contains { $0.isLetter || $0.isNumber }
            if isGroup, let last = words.last, last.last?.isNumber == true,
                last.split(separator: " ").last.map({ (1...3).contains($0.count) && $0.allSatisfy(\.isNumber) }) == true
            {
                words[words.count - 1] += " " + part
            } else {
                words.append(String(part))
            }
        }
        return words
    }
    /// What somebody else's sentence ends with ends ours, too.
    static func punctuated(_ text: String) -> String {
        text.replacing(#/([.!?…])\.(?=\s|$)/#) { String($0.1) }.replacing(#/\.([;,])/#) { String($0.1) }
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
