public import Telemetry

/// The last events of a daemon, for whoever asks why.
public final class EventJournal {
    /// Numbered from 1 in the order in which they happened.
    public private(set) var events = Recent<(number: Int, event: Event)>(limit: 2000)
    private var count = 0
    public init() {}

    public func note(_ event: Event) {
        count += 1
        events.append((count, event))
    }
    /// Those about something: words that are in the kind, in whom it is about, or in a field, others of them after a `|`; newest last, at most
    /// `most`.
    public func about(_ words: String, most: Int) -> [(number: Int, event: Event)] {
        let choices = words.lowercased().split(separator: "|")
        guard !choices.isEmpty else { return Array(events.items.suffix(most)) }
        var found: [(number: Int, event: Event)] = []
        for one in events.items.reversed() where found.count < most {
            let line = one.event.line.lowercased()
            if choices.contains(where: { line.contains($0) }) { found.append(one) }
        }
        return found.reversed()
    }
}
