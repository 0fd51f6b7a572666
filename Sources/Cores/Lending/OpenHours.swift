/// A moment of the owner's week.
public struct LocalMoment: Hashable, Sendable {
    /// 0 = Monday … 6 = Sunday.
    public var weekday: Int
    /// 0..<1440, of the local day.
    public var minute: Int
    /// Year and month, such as 202611: quotas begin anew when it changes.
    public var month: Int
    public init(weekday: Int, minute: Int, month: Int) {
        self.weekday = weekday
        self.minute = minute
        self.month = month
    }
}

/// When a peer may work: days and times of the owner's week, such as “mon-fri 19:00-23:00, sat, sun 22:00-06:00”. A span that ends
/// before it begins goes on into the next day.
public struct OpenHours: Hashable, Sendable, CustomStringConvertible {
    struct Span: Hashable, Sendable {
        var days: ClosedRange<Int>
        /// Minutes of the day; the end may be 1440.
        var from: Int
        var to: Int
    }
    private var spans: [Span]
    public let description: String

    public static let always = OpenHours(spans: [], description: "always")
    private init(spans: [Span], description: String) {
        self.spans = spans
        self.description = description
    }
    static let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

    /// Nil where it is not understood, or where a span is empty.
    public init?(_ text: String) {
        if text == "always" {
            self = .always
            return
        }
        guard text.utf8.count <= 400 else { return nil }
        var spans: [Span] = []
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            let words = item.split(separator: " ")
            guard (1...2).contains(words.count) else { return nil }
            var days = 0...6
            var times: Substring?
            if let named = Self.dayRange(words[0]) {
                days = named
                times = words.count == 2 ? words[1] : nil
            } else {
                guard words.count == 1 else { return nil }
                times = words[0]
            }
            var span = Span(days: days, from: 0, to: 1440)
            if let times {
                let ends = times.split(separator: "-", omittingEmptySubsequences: false)
                guard ends.count == 2, let from = Self.minute(ends[0]), let to = Self.minute(ends[1]), from != to,
                    from < 1440
                else { return nil }
                (span.from, span.to) = (from, to)
            }
            spans.append(span)
        }
        self.init(spans: spans, description: text)
    }
    private static func dayRange(_ text: Substring) -> ClosedRange<Int>? {
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { days.firstIndex(of: String($0)) }
        guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2, first <= last else {
            return nil
        }
        return first...last
    }
    private static func minute(_ text: Substring) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2,
            parts.allSatisfy({ (1...2).contains($0.count) && $0.utf8.allSatisfy { (48...57).contains($0) } }),
            let hour = Int(parts[0]), let minute = Int(parts[1]), minute < 60, hour < 24 || hour == 24 && minute == 0
        else { return nil }
        return hour * 60 + minute
    }

    public func isOpen(_ moment: LocalMoment) -> Bool { isOpen(moment.weekday, moment.minute) }
    private func isOpen(_ weekday: Int, _ minute: Int) -> Bool {
        if spans.isEmpty { return true }
        return spans.contains { span in
            if span.from < span.to { return span.days.contains(weekday) && minute >= span.from && minute < span.to }
            return span.days.contains(weekday) && minute >= span.from
                || span.days.contains((weekday + 6) % 7) && minute < span.to
        }
    }
    /// When it may work next, such as “mon 19:00”; nil where it may now, or never.
    public func nextOpening(after moment: LocalMoment) -> String? {
        guard !isOpen(moment) else { return nil }
        for ahead in 1...7 * 1440 {
            let minute = moment.minute + ahead
            let (day, time) = ((moment.weekday + minute / 1440) % 7, minute % 1440)
            if isOpen(day, time) { return "\(Self.days[day]) \(Self.clock(time))" }
        }
        return nil
    }
    static func clock(_ minute: Int) -> String {
        let (hours, minutes) = (minute / 60, minute % 60)
        return (hours < 10 ? "0" : "") + "\(hours):" + (minutes < 10 ? "0" : "") + "\(minutes)"
    }
}
