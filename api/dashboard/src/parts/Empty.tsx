// Where there is nothing to show: the reason, in words.
import type { ReactElement, ReactNode } from "react";

export const Empty = ({ children }: { children: ReactNode }): ReactElement => <p className="empty">{children}</p>;
