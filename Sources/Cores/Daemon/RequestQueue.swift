import Channels
import Messages
import Primitives

/// Requests whose answers are long, and for which there was no room on the way back: they wait here, where each is small, and are
/// answered when what was answered before has left. So whoever asks for much and takes nothing makes us hold little.
struct RequestQueue: Sendable {
    private struct Line: Hashable {
        let peer: PeerID
        let channel: Channel
    }
    private var waiting: [Line: [Packet]] = [:]
    /// In the order in which they came to wait.
    private var lines: [Line] = []
    /// Requests for which there was no room even here.
    private(set) var dropped = 0

    /// Answers go on while fewer bytes than this have not left.
    static let answersAhead = 1 << 20
    /// More requests of one peer are not kept: who asks for a model in chunks of 256 KiB has so many open at most.
    static let most = 4096

    var isEmpty: Bool { lines.isEmpty }

    /// The channel of the answer; nil for what is no request, or has a short answer.
    static func answers(_ message: Message) -> Channel? {
        switch message {
        case .chunkRequest, .indexRequest: .bulk
        case .logRequest, .readRequest: .control
        default: nil
        }
    }
    func isWaiting(_ peer: PeerID, _ channel: Channel) -> Bool {
        !lines.isEmpty && waiting[Line(peer: peer, channel: channel)] != nil
    }
    mutating func wait(_ packet: Packet, from peer: PeerID, _ channel: Channel) {
        let line = Line(peer: peer, channel: channel)
        guard waiting[line, default: []].count < Self.most else {
            dropped += 1
            return
        }
        if waiting[line] == nil { lines.append(line) }
        waiting[line, default: []].append(packet)
    }
    /// The oldest request of the first line for whose answer there is room; nil when there is none.
    mutating func next(where hasRoom: (PeerID, Channel) -> Bool) -> (packet: Packet, from: PeerID)? {
        for (place, line) in lines.enumerated() where hasRoom(line.peer, line.channel) {
            let packet = waiting[line]!.removeFirst()
            if waiting[line]!.isEmpty {
                waiting[line] = nil
                lines.remove(at: place)
            }
            return (packet, line.peer)
        }
        return nil
    }
    mutating func forget(_ peer: PeerID) {
        guard !lines.isEmpty else { return }
        for line in lines where line.peer == peer { waiting[line] = nil }
        lines.removeAll { $0.peer == peer }
    }
}
