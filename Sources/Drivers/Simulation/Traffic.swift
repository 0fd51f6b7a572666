public import Channels

/// Bytes of the messages that have arrived, by the channel that they came on: headers and payloads, without frames, TLS and TCP.
public struct Traffic: Sendable {
    private struct Pair: Hashable {
        let one: Int
        let other: Int
        init(_ a: Int, _ b: Int) { (one, other) = (min(a, b), max(a, b)) }
    }
    private var readers: [Pair: MessageReader] = [:]
    private var bytes = PerChannel<Int>(repeating: 0)

    init() {}

    mutating func heard(_ bytes: [UInt8], connection: Int, from: Int, to: Int) {
        for message in readers[Pair(from, to), default: MessageReader()].read(bytes, on: connection, isForth: from < to)
        {
            self.bytes[message.channel] += message.bytes.count
        }
    }
    public subscript(_ channel: Channel) -> Int { bytes[channel] }
    public var total: Int { Channel.allCases.reduce(0) { $0 + bytes[$1] } }
}
