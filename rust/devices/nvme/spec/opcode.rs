// SPDX-License-Identifier: GPL-2.0

//! Opcodes of commands, sections 5 and 6.

/// Defines the opcodes of a command set.
macro_rules! opcodes {
    (
        $(#[$doc:meta])*
        $name:ident { $( $(#[$command_doc:meta])* $command:ident = $value:expr, )* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum $name { $( $(#[$command_doc])* $command = $value, )* }

        impl $name {
            /// Every opcode of this set.
            pub(crate) const ALL: &'static [Self] = &[ $( Self::$command, )* ];

            /// Returns the opcode that a command has, if it is one of this set.
            pub(crate) fn decode(opcode: u8) -> Option<Self> {
                match opcode {
                    $( $value => Some(Self::$command), )*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    /// Admin commands that this controller executes, figure 139.
    AdminOpcode {
        /// Section 5.6.
        DeleteSubmissionQueue = 0x00,
        /// Section 5.4.
        CreateSubmissionQueue = 0x01,
        /// Section 5.14.
        GetLogPage = 0x02,
        /// Section 5.5.
        DeleteCompletionQueue = 0x04,
        /// Section 5.3.
        CreateCompletionQueue = 0x05,
        /// Section 5.15.
        Identify = 0x06,
        /// Section 5.1.
        Abort = 0x08,
        /// Section 5.21.
        SetFeatures = 0x09,
        /// Section 5.13.
        GetFeatures = 0x0a,
        /// Section 5.2.
        AsyncEventRequest = 0x0c,
        /// Section 5.7.
        DoorbellBufferConfig = 0x7c,
        /// Section 5.23.
        FormatNvm = 0x80,
    }
}

opcodes! {
    /// Commands of the NVM command set that this controller executes, figure 346.
    NvmOpcode {
        /// Section 6.8.
        Flush = 0x00,
        /// Section 6.15.
        Write = 0x01,
        /// Section 6.9.
        Read = 0x02,
        /// Section 6.16.
        WriteUncorrectable = 0x04,
        /// Section 6.6.
        Compare = 0x05,
        /// Section 6.17.
        WriteZeroes = 0x08,
        /// Section 6.7.
        DatasetManagement = 0x09,
        /// Section 6.14.
        Verify = 0x0c,
    }
}

impl NvmOpcode {
    /// Returns whether a controller executes the command, whose store `keeps_marks` or does not.
    pub(crate) fn is_executed(self, keeps_marks: bool) -> bool {
        keeps_marks || self != Self::WriteUncorrectable
    }

    /// Returns whether the command changes content of the namespace.
    pub(crate) fn changes_content(self) -> bool {
        matches!(
            self,
            Self::Write | Self::WriteUncorrectable | Self::WriteZeroes | Self::DatasetManagement
        )
    }

    /// Returns whether dwords 10 and 11 have the starting LBA (`slba`).
    pub(crate) fn has_slba(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::Read
                | Self::WriteUncorrectable
                | Self::Compare
                | Self::WriteZeroes
                | Self::Verify
        )
    }
}
