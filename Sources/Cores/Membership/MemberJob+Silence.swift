import Messages
import Primitives
import Record

/// What a member does whose leader is not heard.
extension MemberJob {
    /// The job may have ended while this machine slept: whoever was in it, and carries no record, is asked for its log. (What an elector answers
    /// could not be told from a leader's word.)
    mutating func askColleagues() {
        guard case .paused = standing, let due = said.asking, due.next <= now else { return }
        let colleagues = job.members.filter(\.present).map(\.peer).filter { $0 != me && !allegiance.isElector($0) }
        said.asking = (now + Self.askEvery, due.turn + 1)
        // Any of those who may lead leads now, perhaps one that has no session with this machine: each is looked for, ever more seldom.
        if due.turn & (due.turn - 1) == 0 {
            for elector in record.electors where elector != me { effects.push(.seek(elector)) }
        }
        guard !colleagues.isEmpty else { return }
        for place in 0..<min(Self.asked, colleagues.count) {
            send(.readRequest(from: record.length), to: colleagues[(due.turn * Self.asked + place) % colleagues.count])
        }
    }
    private static let askEvery = Duration.seconds(5)
    private static let asked = 3
}
