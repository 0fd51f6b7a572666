/// Reads the messages off one direction of a connection as an onlooker does, for transcripts: nothing is checked, granted or
/// answered. What does not parse is silence.
public struct MessageReader: Sendable {
    private var parser = FrameParser()
    private var messages = PerChannel<(length: Int, bytes: [UInt8])?>(repeating: nil)

    public init() { parser.proven = true }

    /// - Parameter bytes: what comes next, in pieces of any size.
    /// - Returns: the messages that are whole now, in order.
    public mutating func read(_ bytes: [UInt8]) -> [(channel: Channel, bytes: [UInt8])] {
        var rest = bytes[...]
        var whole: [(channel: Channel, bytes: [UInt8])] = []
        while let event = try? parser.next(&rest) {
            switch event {
            case .open(let channel, let length): messages[channel] = (length, [])
            case .piece(let channel, let piece): messages[channel]?.bytes += piece
            case .small: continue
            }
            for channel in Channel.allCases {
                guard let message = messages[channel], message.bytes.count >= message.length else { continue }
                whole.append((channel, message.bytes))
                messages[channel] = nil
            }
        }
        return whole
    }
}
